#include "signsplit/aligned_buffer.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace signsplit {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kHugePage = AlignedBuffer::kHugePage;

constexpr bool is_mapped(std::size_t bytes) { return bytes >= kHugePage; }
constexpr std::size_t round_up_bytes(std::size_t bytes, std::size_t step) { return (bytes + step - 1) / step * step; }

/// Maps one huge page more than asked, and gives back what lies before and after the aligned range.
std::byte* map_aligned(std::size_t bytes) noexcept {
  const std::size_t length = bytes + kHugePage;
  void* const mapping = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  std::byte* const start = static_cast<std::byte*>(mapping);
  const std::size_t misaligned = reinterpret_cast<std::uintptr_t>(start) % kHugePage;
  const std::size_t before = misaligned == 0 ? 0 : kHugePage - misaligned;
  std::byte* const aligned = start + before;
  if (before > 0) ::munmap(start, before);
  ::munmap(aligned + bytes, length - before - bytes);  // never empty: before < kHugePage
#if defined(MADV_HUGEPAGE)
  ::madvise(aligned, bytes, MADV_HUGEPAGE);  // a wish: refused where the system has no huge pages
#endif
  return aligned;
}

std::byte* allocate_lines(std::size_t bytes) noexcept {
  void* const memory = std::aligned_alloc(kLine, bytes);
  if (memory != nullptr) std::memset(memory, 0, bytes);
  return static_cast<std::byte*>(memory);
}

}  // namespace

AlignedBuffer::AlignedBuffer(std::size_t bytes) noexcept {
  if (bytes == 0 || bytes > SIZE_MAX - 2 * kHugePage) return;
  data_ = is_mapped(bytes) ? map_aligned(round_up_bytes(bytes, kHugePage)) : allocate_lines(round_up_bytes(bytes, kLine));
  if (data_ != nullptr) bytes_ = bytes;
}

AlignedBuffer::~AlignedBuffer() {
  if (is_mapped(bytes_)) {
    ::munmap(data_, round_up_bytes(bytes_, kHugePage));
  } else {
    std::free(data_);
  }
}

AlignedBuffer clone(const AlignedBuffer& source) noexcept {
  AlignedBuffer copy(source.size());
  if (copy.data() == nullptr) return copy;
  const auto bytes = static_cast<std::int64_t>(source.size()), page = static_cast<std::int64_t>(kHugePage);
  // Ranges of pages by thread, as packing has them and the executor reads them: a page lies near the thread that touches it first.
#pragma omp parallel for schedule(static) if (is_mapped(source.size()))
  for (std::int64_t begin = 0; begin < bytes; begin += page) {
    std::memcpy(copy.data() + begin, source.data() + begin, static_cast<std::size_t>(std::min(page, bytes - begin)));
  }
  return copy;
}

}  // namespace signsplit
