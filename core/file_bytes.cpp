#include "file_bytes.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace signsplit {
namespace {

Status system_error(const std::filesystem::path& file, int error) {
  if (error == ENOENT || error == ENOTDIR) return not_found(file.string() + ": no such file");
  return io_error(file.string() + ": cannot read: " + std::generic_category().message(error));
}

Result<AlignedBuffer> read_descriptor(const std::filesystem::path& file, int descriptor) {
  struct stat found = {};
  if (::fstat(descriptor, &found) != 0) return system_error(file, errno);
  if (!S_ISREG(found.st_mode)) return io_error(file.string() + ": cannot read: not a regular file");
  AlignedBuffer content(static_cast<std::size_t>(found.st_size));
  if (content.data() == nullptr && found.st_size > 0) return io_error(file.string() + ": not enough memory to read it");
  constexpr std::size_t kLargest = std::size_t{1} << 30;  // Linux reads at most 2 GiB − 4 KiB at once
  for (std::size_t done = 0; done < content.size();) {
    const ssize_t got = ::read(descriptor, content.data() + done, std::min(content.size() - done, kLargest));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(file, errno);
    if (got == 0) return io_error(file.string() + ": cannot read: it was cut short while being read");
    done += static_cast<std::size_t>(got);
  }
  return content;
}

}  // namespace

Result<AlignedBuffer> read_file_bytes(const std::filesystem::path& file) {
  // Without O_NONBLOCK, opening a pipe would wait for its writer.
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return system_error(file, errno);
  Result<AlignedBuffer> content = read_descriptor(file, descriptor);
  ::close(descriptor);
  return content;
}

}  // namespace signsplit
