#include "layer_files.hpp"

#include <fstream>
#include <stdexcept>

#include "command_runner.hpp"
#include "seed.hpp"
#include "signsplit/npy.hpp"
#include "signsplit/synthetic.hpp"

namespace signsplit::test {
namespace {

void must(const Status& status) {
  if (!status) throw std::runtime_error(status.message());
}

void append_little_endian(std::string& text, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) text += static_cast<char>((value >> (8 * i)) & 0xff);
}

void write_bytes(const std::string& file, const std::string& content) {
  std::ofstream stream(file, std::ios::binary);
  stream.write(content.data(), static_cast<std::streamsize>(content.size()));
  if (!stream) throw std::runtime_error("cannot write " + file);
}

}  // namespace

void write_layer(const ScratchDirectory& scratch, const std::string& name, bool gated) {
  const auto weights = synthetic_weights({.d_model = kD, .d_ff = kF, .gated = gated}, 0.3, seed());
  must(weights.status());
  must(save_weights(scratch / name, *weights));
}

void write_input(const ScratchDirectory& scratch, const std::string& name, int rows, int columns) {
  must(write_npy(scratch / name, synthetic_input(rows, columns, seed() + 1), rows, columns));
}

void write_raw_safetensors(const std::string& file, const std::string& header, std::size_t payload,
                           std::uint64_t claimed_length) {
  std::string content;
  append_little_endian(content, claimed_length != 0 ? claimed_length : header.size(), 8);
  content += header;
  content.append(payload, '\0');
  write_bytes(file, content);
}

void write_raw_npy(const std::string& file, const std::string& dictionary, std::size_t payload) {
  std::string header = dictionary;
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string content = "\x93NUMPY\x01";
  content += '\0';
  append_little_endian(content, header.size(), 2);
  content += header;
  content.append(payload, '\0');
  write_bytes(file, content);
}

void write_truncated(const std::string& from, const std::string& to, std::size_t bytes) {
  write_bytes(to, read_text(from).substr(0, bytes));
}

}  // namespace signsplit::test
