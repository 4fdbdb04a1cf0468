// safetensors: round trips, and files that mean harm.
#include "signsplit/safetensors.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <initializer_list>
#include <random>
#include <string>

#include "scratch_directory.hpp"
#include "seed.hpp"

namespace {

using namespace signsplit;
using signsplit::test::ScratchDirectory;

/// A file: length, header, data.
std::string assemble(const std::string& header, const std::string& data, std::uint64_t length) {
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header + data;
}
std::string assemble(const std::string& header, const std::string& data = "") {
  return assemble(header, data, header.size());
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

std::string object(std::initializer_list<std::string> entries) {
  std::string text = "{";
  for (const std::string& entry : entries) text.append(text.size() == 1 ? "" : ",").append(entry);
  return text.append("}");
}

/// The message of refusing the file, which must be one line that begins with its path.
std::string refusal(const std::string& bytes) {
  const ScratchDirectory scratch;
  const std::filesystem::path file = scratch.write("bad.safetensors", bytes);
  const Result<SafetensorsFile> opened = SafetensorsFile::open(file);
  REQUIRE_FALSE(opened.ok());
  CHECK(opened.status().code() == StatusCode::corrupt_file);
  CHECK(opened.message().starts_with(file.string() + ": "));
  CHECK(opened.message().find('\n') == std::string::npos);
  return opened.message();
}

void check_refused(const std::string& bytes, const std::string& rule) {
  CAPTURE(rule);
  const std::string message = refusal(bytes);
  CAPTURE(message);
  CHECK(message.find(rule) != std::string::npos);
}

/// Opens any bytes; of a file that is accepted, every byte must be readable and match shape and dtype. True if accepted.
bool open_and_touch(const ScratchDirectory& scratch, const std::string& bytes) {
  const Result<SafetensorsFile> opened = SafetensorsFile::open(scratch.write("any.safetensors", bytes));
  if (!opened.ok()) {
    CHECK(opened.message().find('\n') == std::string::npos);
    return false;
  }
  unsigned sum = 0;
  std::size_t covered = 0;
  for (const auto& [name, one] : opened->tensors()) {
    for (const std::byte b : one.bytes) sum += static_cast<unsigned>(b);
    covered += one.bytes.size();
    for (const index_t extent : one.shape) CHECK(extent >= 0);
  }
  CHECK(covered <= bytes.size());
  CHECK(sum <= 255u * bytes.size());
  return true;
}

const std::string kSmall = assemble("{\"__metadata__\":{\"k\":\"v\"}," + tensor("a", "F32", "[2]", "[0,8]") + "," +
                                        tensor("b", "BF16", "[1,3]", "[8,14]") + "}  ",
                                    "01234567abcdef");

}  // namespace

TEST_CASE("a small file reads as written") {
  const ScratchDirectory scratch;
  const auto file = SafetensorsFile::open(scratch.write("small.safetensors", kSmall));
  REQUIRE(file.ok());
  REQUIRE(file->tensors().size() == 2);
  const SafetensorsFile::Tensor* const b = file->find("b");
  REQUIRE(b != nullptr);
  CHECK(b->dtype == "BF16");
  CHECK(b->shape == std::vector<index_t>{1, 3});
  CHECK(std::memcmp(b->bytes.data(), "abcdef", 6) == 0);
  CHECK(file->metadata().at("k") == "v");
  CHECK(file->find("c") == nullptr);
  CHECK(file->path() == scratch.path() / "small.safetensors");
}

TEST_CASE("round trip: values, metadata, zero-size tensors, scalars; the data begins 8-byte aligned") {
  const ScratchDirectory scratch;
  const std::filesystem::path path = scratch.path() / "trip.safetensors";
  const std::string odd = "xyz", wide = "0123456789abcdef", two = "pq";
  const auto bytes = [](const std::string& s) { return std::as_bytes(std::span(s)); };
  const std::map<std::string, SafetensorsFile::Tensor> tensors = {{"odd \"name\" \xc3\xa9", {"U8", {3}, bytes(odd)}},
                                                                  {"wide", {"F64", {2, 1}, bytes(wide)}},
                                                                  {"scalar", {"BF16", {}, bytes(two)}},
                                                                  {"none", {"F32", {0, 5}, {}}}};
  const std::map<std::string, std::string> metadata = {{"activation", "relu"}, {"note", "line\nbreak"}};
  REQUIRE(write_safetensors(path, tensors, metadata).ok());
  const auto file = SafetensorsFile::open(path);
  REQUIRE(file.ok());
  CHECK(file->metadata() == metadata);
  REQUIRE(file->tensors().size() == tensors.size());
  for (const auto& [name, expected] : tensors) {
    const SafetensorsFile::Tensor* const got = file->find(name);
    REQUIRE(got != nullptr);
    CHECK(got->dtype == expected.dtype);
    CHECK(got->shape == expected.shape);
    CHECK(std::equal(got->bytes.begin(), got->bytes.end(), expected.bytes.begin(), expected.bytes.end()));
  }
  std::uint64_t length = 0;
  std::memcpy(&length, scratch.read("trip.safetensors").data(), 8);
  CHECK(length % 8 == 0);
  CHECK(scratch.file_count() == 1);
}

TEST_CASE("an empty file of tensors is a file") {
  const ScratchDirectory scratch;
  REQUIRE(write_safetensors(scratch.path() / "none.safetensors", {}).ok());
  CHECK(SafetensorsFile::open(scratch.path() / "none.safetensors")->tensors().empty());
}

TEST_CASE("the writer refuses what the reader would") {
  const ScratchDirectory scratch;
  const std::string four = "1234";
  const std::span<const std::byte> bytes = std::as_bytes(std::span(four));
  const auto write = [&](const std::string& name, SafetensorsFile::Tensor one) {
    return write_safetensors(scratch.path() / "w.safetensors", {{name, std::move(one)}}).code();
  };
  CHECK(write("a", {"F32", {2}, bytes}) == StatusCode::invalid_argument);
  CHECK(write("a", {"F31", {1}, bytes}) == StatusCode::invalid_argument);
  CHECK(write("a", {"F32", {-1, -1}, bytes}) == StatusCode::invalid_argument);
  CHECK(write("a", {"F32", {index_t{1} << 62, 4}, bytes}) == StatusCode::invalid_argument);
  CHECK(write("__metadata__", {"F32", {1}, bytes}) == StatusCode::invalid_argument);
  CHECK(write("\xff", {"F32", {1}, bytes}) == StatusCode::invalid_argument);
  CHECK(scratch.file_count() == 0);
}

TEST_CASE("lengths of the header") {
  check_refused("", "shorter than the 8 bytes");
  check_refused("1234567", "shorter than the 8 bytes");
  check_refused(assemble("{}", "", 3), "runs past the end of the file");
  check_refused(assemble("{}", "", 100'000'001), "over the limit of 100 MB");
  check_refused(assemble("{}", "", UINT64_MAX), "over the limit of 100 MB");
  check_refused(assemble("{}", "", UINT64_MAX - 7), "over the limit of 100 MB");
  check_refused(assemble("", "", 0), "must begin with {");
}

TEST_CASE("headers that are not what they should be") {
  check_refused(assemble("[]"), "must begin with {");
  check_refused(assemble(" {}"), "must begin with {");
  check_refused(assemble("{"), "is not JSON");
  check_refused(assemble("{} x"), "is not JSON");
  check_refused(assemble(std::string("{}\0", 3)), "is not JSON");
  check_refused(assemble("{\"\xff\":1}"), "is not JSON");
  check_refused(assemble("{\"a\":1e999}"), "is not JSON");
  check_refused(assemble("{\"a\":" + std::string(100000, '[')), "levels deep");
  check_refused(assemble("{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}"), "levels deep");
  check_refused(assemble("{\"a\":1}"), "tensor a: its entry must be an object");
  check_refused(assemble("{\"a\\nb\\u001b\":1}"), "tensor a?b?: ");
  check_refused(assemble("{\"" + std::string(5000, 'n') + "\":1}"), "nnn...: ");
  check_refused(assemble("{\"a\":{}}"), "needs a string \"dtype\"");
  check_refused(assemble("{\"a\":{\"dtype\":1}}"), "needs a string \"dtype\"");
  check_refused(assemble("{\"a\":{\"dtype\":\"F32\"}}"), "needs a \"shape\"");
  check_refused(assemble("{\"a\":{\"dtype\":\"F32\",\"shape\":[0]}}"), "needs \"data_offsets\"");
  check_refused(assemble(object({tensor("a", "F32", "[0]", "[0]")})), "needs \"data_offsets\"");
  check_refused(assemble(object({tensor("a", "F32", "[0]", "[0,0,0]")})), "needs \"data_offsets\"");
}

TEST_CASE("names twice") {
  const std::string a = tensor("a", "F32", "[1]", "[0,4]"), again = tensor("a", "F32", "[1]", "[4,8]");
  check_refused(assemble(object({a, again}), "01234567"), "has the name \"a\" twice");
  check_refused(assemble(object({a, tensor("\\u0061", "F32", "[1]", "[4,8]")}), "01234567"), "has the name \"a\" twice");
  check_refused(assemble("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}"), "has the name \"k\" twice");
  check_refused(assemble("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "0123"),
                "has the name \"dtype\" twice");
}

TEST_CASE("dtypes and shapes") {
  const auto with = [](const std::string& dtype, const std::string& shape) {
    return assemble(object({tensor("a", dtype, shape, "[0,4]")}), "0123");
  };
  check_refused(with("F31", "[1]"), "unknown dtype \"F31\"");
  check_refused(with("f32", "[1]"), "unknown dtype \"f32\"");
  check_refused(with("", "[1]"), "unknown dtype \"\"");
  for (const char* shape : {"[-1]", "[1.0]", "[\"1\"]", "[null]", "[18446744073709551615]", "[9223372036854775808]", "[1e2]",
                            "[-0]", "[true]", "[[1]]"}) {
    check_refused(with("F32", shape), "integers in [0, 2^63)");
  }
  check_refused(with("F32", "{}"), "shape must be an array");
  check_refused(with("F32", "1"), "shape must be an array");
  check_refused(with("F32", "[4294967296,4294967296]"), "overflows");
  check_refused(with("F32", "[9223372036854775807]"), "overflows");
  check_refused(with("U8", "[4294967297,4294967296,2]"), "overflows");
  check_refused(with("F32", "[2]"), "span 4 bytes, shape and dtype need 8");
  check_refused(with("F32", "[0,9223372036854775807]"), "shape and dtype need 0");
  check_refused(with("BF16", "[1]"), "shape and dtype need 2");
}

TEST_CASE("places of the data") {
  const auto with = [](const std::string& offsets) { return assemble(object({tensor("a", "U8", "[4]", offsets)}), "0123"); };
  for (const char* offsets : {"[0,5]", "[1,5]", "[4,0]", "[9223372036854775803,9223372036854775807]"}) {
    check_refused(with(offsets), "lie outside the file's 4 bytes");
  }
  for (const char* offsets : {"[-4,0]", "[0,4.0]", "[0,\"4\"]", "[0,18446744073709551615]"}) {
    check_refused(with(offsets), "data_offsets must be integers in [0, 2^63)");
  }
  const auto two = [](const std::string& first, const std::string& second, const std::string& data) {
    return assemble(object({tensor("a", "U8", "[4]", first), tensor("b", "U8", "[4]", second)}), data);
  };
  check_refused(two("[0,4]", "[0,4]", "0123"), "tensor b: its bytes overlap");
  check_refused(two("[0,4]", "[3,7]", "0123456"), "tensor b: its bytes overlap");
  check_refused(two("[3,7]", "[0,4]", "0123456"), "tensor a: its bytes overlap");
  check_refused(two("[0,4]", "[5,9]", "012345678"), "tensor b: a gap of 1 bytes");
  check_refused(two("[1,5]", "[5,9]", "012345678"), "tensor a: a gap of 1 bytes");
  check_refused(two("[0,4]", "[4,8]", "012345678"), "the last 1 bytes belong to no tensor");
  check_refused(assemble("{}", "x"), "the last 1 bytes belong to no tensor");
  check_refused(assemble(object({tensor("a", "U8", "[4]", "[0,4]"), tensor("z", "U8", "[0]", "[2,2]")}), "0123"), "overlap");
}

TEST_CASE("metadata is text") {
  check_refused(assemble("{\"__metadata__\":[]}"), "__metadata__ must be an object");
  check_refused(assemble("{\"__metadata__\":{\"k\":1}}"), "__metadata__ \"k\" must be a string");
  check_refused(assemble("{\"__metadata__\":{\"k\":{\"a\":\"b\"}}}"), "__metadata__ \"k\" must be a string");
}

TEST_CASE("cut at every byte, a file is refused") {
  const ScratchDirectory scratch;
  REQUIRE(open_and_touch(scratch, kSmall));
  for (std::size_t size = 0; size < kSmall.size(); ++size) {
    CAPTURE(size);
    REQUIRE_FALSE(open_and_touch(scratch, kSmall.substr(0, size)));
  }
  REQUIRE_FALSE(open_and_touch(scratch, kSmall + "x"));
}

TEST_CASE("flipped bytes never do harm") {
  const ScratchDirectory scratch;
  std::mt19937_64 random(test::seed());
  for (int trial = 0; trial < 2000; ++trial) {
    std::string bytes = kSmall;
    for (int flips = 1 + static_cast<int>(random() % 4); flips > 0; --flips) {
      bytes[random() % bytes.size()] =
          static_cast<char>(random() % 3 == 0 ? "0-{}[],:\"9"[random() % 10] : static_cast<char>(random()));
    }
    open_and_touch(scratch, bytes);
  }
}

TEST_CASE("files that are none") {
  const ScratchDirectory scratch;
  CHECK(SafetensorsFile::open(scratch.path() / "missing").status().code() == StatusCode::not_found);
  CHECK(SafetensorsFile::open(scratch.path()).status().code() == StatusCode::io_error);
  CHECK(SafetensorsFile::open("/dev/zero").status().code() == StatusCode::io_error);
  CHECK(SafetensorsFile::open("").status().code() == StatusCode::not_found);
}
