// Whole-or-nothing files.
#include "signsplit/atomic_file.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <csignal>

#include "scratch_directory.hpp"

using namespace signsplit;
using signsplit::test::ScratchDirectory;

TEST_CASE("pieces are written one after the other, over an older file") {
  const ScratchDirectory scratch;
  const std::filesystem::path file = scratch.write("a", "something old and longer");
  const std::string first = "abc", second, third = "de";
  const std::span<const std::byte> pieces[] = {std::as_bytes(std::span(first)), std::as_bytes(std::span(second)),
                                               std::as_bytes(std::span(third))};
  REQUIRE(write_file(file, pieces).ok());
  CHECK(scratch.read("a") == "abcde");
  CHECK(scratch.file_count() == 1);
  REQUIRE(write_file(file, "").ok());
  CHECK(scratch.read("a").empty());
}

TEST_CASE("a failure leaves nothing behind, and names the file") {
  const ScratchDirectory scratch;
  const Status missing = write_file(scratch.path() / "no" / "such", "x");
  CHECK(missing.code() == StatusCode::io_error);
  CHECK(missing.message().find("such: cannot write: ") != std::string::npos);
  std::filesystem::create_directory(scratch.path() / "directory");
  CHECK(write_file(scratch.path() / "directory", "x").code() == StatusCode::io_error);
  CHECK(write_file("", "x").code() == StatusCode::io_error);
  CHECK(scratch.file_count() == 1);
}

namespace {

/// No file of this process may grow beyond `bytes`, as if the disk were full.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_ = {};
  void (*handler_)(int);
};

}  // namespace

TEST_CASE("a disk that fills up leaves the older file, and no other") {
  const ScratchDirectory scratch;
  const std::filesystem::path file = scratch.write("a", "old");
  Status status;
  {
    const FileSizeLimit limit(100);
    status = write_file(file, std::string(1000, 'x'));
  }
  CHECK(status.code() == StatusCode::io_error);
  CHECK(scratch.read("a") == "old");
  CHECK(scratch.file_count() == 1);
}

TEST_CASE("through a link the file behind it is written, a device stays a device") {
  const ScratchDirectory scratch;
  scratch.write("target", "old");
  std::filesystem::create_symlink("target", scratch.path() / "link");
  REQUIRE(write_file(scratch.path() / "link", "new").ok());
  CHECK(std::filesystem::is_symlink(scratch.path() / "link"));
  CHECK(scratch.read("target") == "new");
  REQUIRE(write_file("/dev/null", "x").ok());
  CHECK(std::filesystem::is_character_file("/dev/null"));
}
