// The whole content of a file, in memory of our own: a mapped file that shrinks under us would end the process.
#pragma once

#include <filesystem>

#include "signsplit/aligned_buffer.hpp"
#include "signsplit/status.hpp"

namespace signsplit {

/// Reads a regular file. An empty file gives an empty buffer. Errors name the file.
[[nodiscard]] Result<AlignedBuffer> read_file_bytes(const std::filesystem::path& file);

}  // namespace signsplit
