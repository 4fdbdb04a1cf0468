#include "signsplit/npy.hpp"

#include <bit>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <string_view>

#include "file_bytes.hpp"
#include "npy_header.hpp"
#include "signsplit/atomic_file.hpp"
#include "signsplit/safetensors.hpp"
#include "strict_json.hpp"

namespace signsplit {
namespace {

static_assert(std::endian::native == std::endian::little, "the bytes of a file are used as they are");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kMaxHeaderBytes = 1 << 20;

/// The matrix of an f32 tensor of one or two dimensions.
Result<FloatMatrix> make_matrix(const std::vector<index_t>& shape, std::span<const std::byte> bytes) {
  if (shape.empty() || shape.size() > 2) {
    return invalid_argument("has " + std::to_string(shape.size()) + " dimensions: must have one or two");
  }
  FloatMatrix matrix;
  matrix.rows = shape.size() == 2 ? shape[0] : 1;
  matrix.columns = shape.back();
  if (matrix.rows == 0) return invalid_argument("has no rows");
  if (matrix.columns == 0) return invalid_argument("has no columns");
  if (matrix.rows > std::numeric_limits<index_t>::max() / 4 / matrix.columns) {
    return corrupt_file("the product of its shape overflows 64 bits");
  }
  const std::size_t expected = static_cast<std::size_t>(matrix.rows * matrix.columns) * sizeof(float);
  if (bytes.size() != expected) {
    return corrupt_file((bytes.size() < expected ? "truncated: shape needs " : "trailing bytes: shape needs ") +
                        std::to_string(expected) + " bytes of data, the file has " + std::to_string(bytes.size()));
  }
  matrix.values.resize(expected / sizeof(float));
  std::memcpy(matrix.values.data(), bytes.data(), expected);
  return matrix;
}

struct NpyParts {
  std::string_view header;
  std::span<const std::byte> data;
};

/// Splits the file: magic, version, header length (2 bytes in version 1, 4 in versions 2 and 3), header, data.
Result<NpyParts> split(std::span<const std::byte> content) {
  constexpr std::size_t kVersionBytes = 2;
  const std::string_view text(reinterpret_cast<const char*>(content.data()), content.size());
  if (!text.starts_with(kMagic)) return corrupt_file("not a .npy file: the magic \\x93NUMPY is missing");
  if (text.size() < kMagic.size() + kVersionBytes) return corrupt_file("truncated: ends in its version");
  const int version = static_cast<unsigned char>(text[kMagic.size()]);
  if (version < 1 || version > 3) {
    return unsupported(".npy format version " + std::to_string(version) + " is not supported: 1, 2 and 3 are");
  }
  const std::size_t length_bytes = version == 1 ? 2 : 4, start = kMagic.size() + kVersionBytes + length_bytes;
  if (text.size() < start) return corrupt_file("truncated: ends in its header length");
  std::uint32_t length = 0;
  std::memcpy(&length, content.data() + kMagic.size() + kVersionBytes, length_bytes);
  if (length > kMaxHeaderBytes)
    return corrupt_file("header length " + std::to_string(length) + " is over the limit of 1 MiB");
  if (length > text.size() - start) {
    return corrupt_file("header length " + std::to_string(length) + " runs past the end of the file");
  }
  return NpyParts{text.substr(start, length), content.subspan(start + length)};
}

Result<FloatMatrix> parse_npy(std::span<const std::byte> content) {
  const Result<NpyParts> parts = split(content);
  if (!parts) return parts.status();
  const Result<NpyHeader> header = parse_npy_header(parts->header);
  if (!header) return header.status();
  if (header->dtype != "<f4") {
    return unsupported("dtype '" + printable(header->dtype) + "' is not supported: '<f4' (little-endian f32) is");
  }
  if (header->fortran_order) return unsupported("Fortran order is not supported: C order is");
  return make_matrix(header->shape, parts->data);
}

Result<FloatMatrix> read_npy(const std::filesystem::path& file) {
  Result<AlignedBuffer> content = read_file_bytes(file);
  if (!content) return content.status();
  Result<FloatMatrix> matrix = parse_npy(content->bytes());
  if (!matrix) return Status(matrix.status().code(), file.string() + ": " + matrix.message());
  return matrix;
}

/// The only F32 tensor, or of several the one named x.
Result<FloatMatrix> read_tensor(const std::filesystem::path& path) {
  const Result<SafetensorsFile> file = SafetensorsFile::open(path);
  if (!file) return file.status();
  const std::string* name = nullptr;
  int candidates = 0;
  for (const auto& [one, tensor] : file->tensors()) {
    if (tensor.dtype != "F32") continue;
    ++candidates;
    if (name == nullptr || one == "x") name = &one;
  }
  if (name == nullptr) return invalid_argument(path.string() + ": has no F32 tensor");
  if (candidates > 1 && *name != "x") {
    return invalid_argument(path.string() + ": has " + std::to_string(candidates) + " F32 tensors, and none is named x");
  }
  const SafetensorsFile::Tensor& tensor = *file->find(*name);
  Result<FloatMatrix> matrix = make_matrix(tensor.shape, tensor.bytes);
  if (!matrix) {
    return Status(matrix.status().code(), path.string() + ": tensor " + printable(*name) + ": " + matrix.message());
  }
  return matrix;
}

/// Magic to newline, padded so that the data is 64-byte aligned.
std::string npy_header(index_t rows, index_t columns) {
  std::string dictionary =
      "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(rows) + ", " + std::to_string(columns) + "), }";
  constexpr std::size_t kStart = 10;
  const index_t whole = round_up(static_cast<index_t>(kStart + dictionary.size() + 1), 64);
  dictionary.resize(static_cast<std::size_t>(whole) - kStart - 1, ' ');
  dictionary += '\n';
  std::string header(kMagic);
  header += '\x01';
  header += '\x00';
  header += static_cast<char>(dictionary.size() & 0xff);
  header += static_cast<char>(dictionary.size() >> 8);
  return header + dictionary;
}

}  // namespace

Result<FloatMatrix> read_matrix(const std::filesystem::path& file) try {
  return file.extension() == ".safetensors" ? read_tensor(file) : read_npy(file);
} catch (const std::bad_alloc&) {
  return io_error("not enough memory to read a matrix");
}

Status write_npy(const std::filesystem::path& file, std::span<const float> values, index_t rows, index_t columns) try {
  const bool fits = rows >= 0 && columns >= 0 && (columns == 0 || rows <= std::numeric_limits<index_t>::max() / columns) &&
                    static_cast<std::size_t>(rows * columns) == values.size();
  if (!fits) {
    return invalid_argument(file.string() + ": " + std::to_string(values.size()) + " values are not [" +
                            std::to_string(rows) + ", " + std::to_string(columns) + "]");
  }
  const std::string header = npy_header(rows, columns);
  const std::span<const std::byte> pieces[] = {std::as_bytes(std::span(header)), std::as_bytes(values)};
  return write_file(file, pieces);
} catch (const std::bad_alloc&) {
  return io_error("not enough memory to write a matrix");
}

}  // namespace signsplit
