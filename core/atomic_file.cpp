#include "signsplit/atomic_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <new>
#include <string>
#include <system_error>

namespace signsplit {
namespace {

using Pieces = std::span<const std::span<const std::byte>>;

Status system_error(const std::filesystem::path& file, const char* verb, int error) {
  return io_error(file.string() + ": cannot " + verb + ": " + std::generic_category().message(error));
}

/// 0, or errno.
int write_all(int descriptor, Pieces pieces) {
  constexpr std::size_t kLargest = std::size_t{1} << 30;  // Linux writes at most 2 GiB − 4 KiB at once
  for (std::span<const std::byte> rest : pieces) {
    while (!rest.empty()) {
      const ssize_t written = ::write(descriptor, rest.data(), rest.size() < kLargest ? rest.size() : kLargest);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return errno;
      rest = rest.subspan(static_cast<std::size_t>(written));
    }
  }
  return 0;
}

/// Closes, and reports the first failure of all: 0, or errno. Some systems report a full disk only here. No fsync: the
/// promise is about failures of this process and of its disk, not of the power, and a sync can take a second.
int finish(int descriptor, int error) {
  if (::close(descriptor) != 0 && error == 0) error = errno;
  return error;
}

/// Devices and pipes have no content to keep whole, and must not be replaced by a file: they are written in place.
Status write_in_place(const std::filesystem::path& file, Pieces pieces) {
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor < 0) return system_error(file, "write", errno);
  const int error = finish(descriptor, write_all(descriptor, pieces));
  return error == 0 ? Status{} : system_error(file, "write", error);
}

std::string temporary_name(const std::filesystem::path& file) {
  static std::atomic<unsigned> counter{0};
  return file.string() + ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(counter.fetch_add(1));
}

Status write_and_rename(const std::filesystem::path& file, Pieces pieces) {
  const std::string temporary = temporary_name(file);
  const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0) return system_error(file, "write", errno);
  int error = finish(descriptor, write_all(descriptor, pieces));
  if (error == 0 && ::rename(temporary.c_str(), file.c_str()) != 0) error = errno;
  if (error == 0) return {};
  ::unlink(temporary.c_str());
  return system_error(file, "write", error);
}

}  // namespace

Status write_file(const std::filesystem::path& file, Pieces pieces) try {
  struct stat found = {};
  if (::stat(file.c_str(), &found) != 0) return write_and_rename(file, pieces);
  if (S_ISDIR(found.st_mode)) return system_error(file, "write", EISDIR);
  if (!S_ISREG(found.st_mode)) return write_in_place(file, pieces);
  // Through a symbolic link, it is the file behind it that is replaced, not the link.
  std::error_code error;
  const std::filesystem::path target = std::filesystem::canonical(file, error);
  return write_and_rename(error ? file : target, pieces);
} catch (const std::bad_alloc&) {
  return io_error("not enough memory to write a file");
}

Status write_file(const std::filesystem::path& file, std::string_view text) {
  const std::span<const std::byte> piece = std::as_bytes(std::span(text));
  return write_file(file, std::span(&piece, 1));
}

}  // namespace signsplit
