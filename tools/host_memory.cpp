#include "tools/host_memory.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>

namespace signsplit::tools {
namespace {

/// The number of kB in a line "Name:   123 kB", as bytes; 0 for any other line.
std::size_t bytes_of_line(const std::string& line, const char* name) {
  if (!line.starts_with(name)) return 0;
  unsigned long long kib = 0;
  const char* colon = line.c_str() + std::char_traits<char>::length(name);
  return std::sscanf(colon, ": %llu", &kib) == 1 ? static_cast<std::size_t>(kib) * 1024 : 0;
}

/// The first line of a mapping: "7f0123-7f0456 rw-p ...".
bool mapping_bounds(const std::string& line, std::uintptr_t& begin, std::uintptr_t& end) {
  unsigned long long first = 0, last = 0;
  if (std::sscanf(line.c_str(), "%llx-%llx ", &first, &last) != 2) return false;
  begin = static_cast<std::uintptr_t>(first);
  end = static_cast<std::uintptr_t>(last);
  return true;
}

}  // namespace

std::size_t available_memory_bytes() {
  std::ifstream file("/proc/meminfo");
  std::string line;
  while (std::getline(file, line)) {
    if (const std::size_t bytes = bytes_of_line(line, "MemAvailable")) return bytes;
  }
  return 0;
}

double huge_page_fraction(std::span<const std::span<const std::byte>> ranges) {
  std::ifstream file("/proc/self/smaps");
  std::string line;
  std::size_t resident = 0, huge = 0;
  bool ours = false;
  while (std::getline(file, line)) {
    std::uintptr_t begin = 0, end = 0;
    if (mapping_bounds(line, begin, end)) {
      ours = std::any_of(ranges.begin(), ranges.end(), [&](std::span<const std::byte> range) {
        const auto first = reinterpret_cast<std::uintptr_t>(range.data());
        return first >= begin && first < end;
      });
    } else if (ours) {
      resident += bytes_of_line(line, "Rss");
      huge += bytes_of_line(line, "AnonHugePages");
    }
  }
  return resident == 0 ? 0.0 : static_cast<double>(huge) / static_cast<double>(resident);
}

}  // namespace signsplit::tools
