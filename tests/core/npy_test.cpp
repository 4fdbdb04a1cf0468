// .npy: round trips, and files that mean harm.
#include "signsplit/npy.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cstring>
#include <limits>
#include <random>

#include "scratch_directory.hpp"
#include "seed.hpp"
#include "signsplit/safetensors.hpp"

namespace {

using namespace signsplit;
using signsplit::test::ScratchDirectory;

std::string assemble(const std::string& header, const std::string& data, int version = 1) {
  std::string file = "\x93NUMPY";
  file += static_cast<char>(version);
  file += '\0';
  const std::uint32_t length = static_cast<std::uint32_t>(header.size());
  file.append(reinterpret_cast<const char*>(&length), version == 1 ? 2 : 4);
  return file + header + data;
}

std::string dictionary(const std::string& shape, const std::string& dtype = "'<f4'", const std::string& order = "False") {
  return "{'descr': " + dtype + ", 'fortran_order': " + order + ", 'shape': " + shape + ", }   \n";
}

const std::string kData(24, 'x');  // six floats
const std::string kSmall = assemble(dictionary("(2, 3)"), kData);

Result<FloatMatrix> read_bytes(const std::string& bytes) {
  static const ScratchDirectory scratch;
  const std::filesystem::path file = scratch.write("m.npy", bytes);
  Result<FloatMatrix> matrix = read_matrix(file);
  if (!matrix.ok()) {
    CHECK(matrix.message().starts_with(file.string() + ": "));
    CHECK(matrix.message().find('\n') == std::string::npos);
  }
  return matrix;
}

void check_refused(const std::string& bytes, const std::string& rule) {
  CAPTURE(rule);
  const Result<FloatMatrix> matrix = read_bytes(bytes);
  REQUIRE_FALSE(matrix.ok());
  CAPTURE(matrix.message());
  CHECK(matrix.message().find(rule) != std::string::npos);
}

}  // namespace

TEST_CASE("round trip bit for bit, data 64-byte aligned") {
  const ScratchDirectory scratch;
  const std::filesystem::path file = scratch.path() / "m.npy";
  const std::vector<float> values = {1.5f,
                                     -0.0f,
                                     std::numeric_limits<float>::denorm_min(),
                                     std::bit_cast<float>(0x7fc12345u),
                                     -std::numeric_limits<float>::infinity(),
                                     3e38f};
  for (const index_t rows : {1, 2, 3, 6}) {
    REQUIRE(write_npy(file, values, rows, 6 / rows).ok());
    CHECK((scratch.read("m.npy").size() - 24) % 64 == 0);
    const auto back = read_matrix(file);
    REQUIRE(back.ok());
    CHECK(back->rows == rows);
    CHECK(back->columns == 6 / rows);
    CHECK(std::memcmp(back->values.data(), values.data(), 24) == 0);
  }
  CHECK(scratch.file_count() == 1);
}

TEST_CASE("the writer refuses a shape that is not its values'") {
  const ScratchDirectory scratch;
  const std::vector<float> values(6);
  for (const auto& [rows, columns] : {std::pair<index_t, index_t>{2, 2}, {-2, -3}, {0, 0}, {index_t{1} << 62, 8}, {7, 1}}) {
    CHECK(write_npy(scratch.path() / "m.npy", values, rows, columns).code() == StatusCode::invalid_argument);
  }
  CHECK(scratch.file_count() == 0);
}

TEST_CASE("all versions, one and two dimensions, any order of the keys") {
  for (const int version : {1, 2, 3}) CHECK(read_bytes(assemble(dictionary("(2, 3)"), kData, version))->rows == 2);
  const auto vector = read_bytes(assemble(dictionary("(6,)"), kData));
  REQUIRE(vector.ok());
  CHECK(vector->rows == 1);
  CHECK(vector->columns == 6);
  CHECK(read_bytes(assemble("{\"shape\":(3,2),'fortran_order':False,\"descr\":\"<f4\"}", kData))->rows == 3);
}

TEST_CASE("shapes") {
  check_refused(assemble(dictionary("(0, 3)"), ""), "has no rows");
  check_refused(assemble(dictionary("(0, 0)"), ""), "has no rows");
  check_refused(assemble(dictionary("(3, 0)"), ""), "has no columns");
  check_refused(assemble(dictionary("(0,)"), ""), "has no columns");
  check_refused(assemble(dictionary("()"), "1234"), "has 0 dimensions");
  check_refused(assemble(dictionary("(1, 2, 3)"), kData), "has 3 dimensions");
  check_refused(assemble(dictionary("(2, 4)"), kData), "truncated: shape needs 32 bytes of data, the file has 24");
  check_refused(assemble(dictionary("(2, 2)"), kData), "trailing bytes: shape needs 16 bytes");
  check_refused(assemble(dictionary("(9223372036854775807, 9223372036854775807)"), kData), "overflows");
  check_refused(assemble(dictionary("(4611686018427387904, 4)"), ""), "overflows");
  check_refused(assemble(dictionary("(9223372036854775807,)"), kData), "overflows");
  check_refused(assemble(dictionary("(1099511627776, 1)"), kData), "truncated");
  for (const char* shape : {"(6)", "(-1,)", "(18446744073709551616,)", "(6.0,)", "(,)", "(2 3)", "(2,,3)", "[2, 3]", "6",
                            "('6',)", "(2, 3", "(0x6,)"}) {
    CAPTURE(shape);
    check_refused(assemble(dictionary(shape), kData), "header");
  }
  std::string many = "(";
  for (int i = 0; i < 10000; ++i) many += "1,";
  check_refused(assemble(dictionary(many + ")"), "1234"), "header: 'shape'");
}

TEST_CASE("dtypes and orders") {
  for (const char* dtype : {"'<f8'", "'>f4'", "'<f2'", "'|i1'", "'f4'", "''", "'\x1b[31m'"}) {
    check_refused(assemble(dictionary("(2, 3)", dtype), kData), "is not supported: '<f4'");
  }
  check_refused(assemble(dictionary("(2, 3)", "[('a', '<f4')]"), kData), "must be a simple dtype");
  check_refused(assemble(dictionary("(2, 3)", "'<f4'", "True"), kData), "Fortran order is not supported");
  check_refused(assemble(dictionary("(2, 3)", "'<f4'", "1"), kData), "must be True or False");
}

TEST_CASE("headers that are not what they should be") {
  for (const char* header :
       {"", "{}", "{", "}", "[]", "{'descr': '<f4'}", "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} x",
        "{'descr': '<f4' 'fortran_order': False, 'shape': (2, 3)}", "{'descr: '<f4'}", "{descr: '<f4'}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'shape': (2, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'more': 1}", "{'\n': 1}"}) {
    CAPTURE(header);
    check_refused(assemble(header, kData), "header");
  }
}

TEST_CASE("magic, version, length") {
  check_refused("", "not a .npy file");
  check_refused("\x93NUMPX" + kSmall.substr(6), "not a .npy file");
  check_refused("\x93NUMPY", "truncated");
  for (const char version : {'\0', '\4', '\xff'}) {
    std::string file = kSmall;
    file[6] = version;
    check_refused(file, "format version");
  }
  std::string file = kSmall;
  file[8] = file[9] = '\xff';
  check_refused(file, "runs past the end of the file");
  file = assemble(dictionary("(2, 3)"), kData, 2);
  file[8] = file[9] = file[10] = file[11] = '\xff';
  check_refused(file, "over the limit of 1 MiB");
}

TEST_CASE("cut at every byte, a file is refused; flipped bytes never do harm") {
  REQUIRE(read_bytes(kSmall).ok());
  for (std::size_t size = 0; size < kSmall.size(); ++size) REQUIRE_FALSE(read_bytes(kSmall.substr(0, size)).ok());
  std::mt19937_64 random(test::seed());
  for (int trial = 0; trial < 1000; ++trial) {
    std::string bytes = kSmall;
    for (int flips = 1 + static_cast<int>(random() % 3); flips > 0; --flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    const auto matrix = read_bytes(bytes);
    if (matrix.ok()) CHECK(matrix->values.size() * 4 == kData.size());
  }
}

TEST_CASE("safetensors: the one F32 tensor, or the one named x") {
  const ScratchDirectory scratch;
  const std::filesystem::path file = scratch.path() / "x.safetensors";
  const std::vector<float> first = {1, 2, 3, 4}, second = {5, 6};
  const SafetensorsFile::Tensor four{"F32", {2, 2}, std::as_bytes(std::span(first))};
  const SafetensorsFile::Tensor two{"F32", {2}, std::as_bytes(std::span(second))};
  SafetensorsFile::Tensor other = two;
  other.dtype = "I32";

  REQUIRE(write_safetensors(file, {{"anything", four}, {"i", other}}).ok());
  CHECK(read_matrix(file)->values == first);
  REQUIRE(write_safetensors(file, {{"a", four}, {"x", two}, {"z", four}}).ok());
  CHECK(read_matrix(file)->values == second);
  REQUIRE(write_safetensors(file, {{"a", four}, {"b", two}}).ok());
  CHECK(read_matrix(file).message().find("2 F32 tensors, and none is named x") != std::string::npos);
  REQUIRE(write_safetensors(file, {{"x", other}}).ok());
  CHECK(read_matrix(file).message().find("has no F32 tensor") != std::string::npos);
  REQUIRE(write_safetensors(file, {{"x", {"F32", {0, 4}, {}}}}).ok());
  CHECK(read_matrix(file).message().find("tensor x: has no rows") != std::string::npos);
}

TEST_CASE("files that are none") {
  const ScratchDirectory scratch;
  CHECK(read_matrix(scratch.path() / "missing.npy").status().code() == StatusCode::not_found);
  CHECK(read_matrix(scratch.path()).status().code() == StatusCode::io_error);
  CHECK(read_matrix("/dev/zero").status().code() == StatusCode::io_error);
}
