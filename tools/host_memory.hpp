// What the operating system says of memory: how much there is, and what kind of pages it granted.
#pragma once

#include <cstddef>
#include <span>

namespace signsplit::tools {

/// Bytes that can be allocated without swapping (MemAvailable of /proc/meminfo); 0 when the system does not tell.
[[nodiscard]] std::size_t available_memory_bytes();

/// Fraction of the mappings that hold these ranges which lies on huge pages (AnonHugePages / Rss of /proc/self/smaps);
/// 0 when the system does not tell.
[[nodiscard]] double huge_page_fraction(std::span<const std::span<const std::byte>> ranges);

}  // namespace signsplit::tools
