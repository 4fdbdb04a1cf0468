#include "transpose.hpp"

#include <algorithm>
#include <cstring>

namespace signsplit {
namespace {

constexpr index_t kBlock = 64;

/// One block of at most kBlock × kBlock. It passes through a copy on the stack: rows of a large matrix lie a power of two
/// apart and would throw one another out of the cache, were they read element by element.
template <class T>
void transpose_block(const std::byte* source, index_t rows, index_t columns, index_t source_stride, std::byte* target,
                     index_t target_stride) noexcept {
  constexpr index_t kBytes = sizeof(T);
  T block[kBlock][kBlock];
  T line[kBlock];
  for (index_t r = 0; r < rows; ++r) {
    std::memcpy(block[r], source + r * source_stride * kBytes, static_cast<std::size_t>(columns * kBytes));
  }
  for (index_t c = 0; c < columns; ++c) {
    for (index_t r = 0; r < rows; ++r) line[r] = block[r][c];
    std::memcpy(target + c * target_stride * kBytes, line, static_cast<std::size_t>(rows * kBytes));
  }
}

template <class T>
void transpose_all(const std::byte* source, index_t rows, index_t columns, index_t source_stride, std::byte* target,
                   index_t target_stride) noexcept {
  constexpr index_t kBytes = sizeof(T);
#pragma omp parallel for schedule(static)
  for (index_t c = 0; c < columns; c += kBlock) {
    for (index_t r = 0; r < rows; r += kBlock) {
      transpose_block<T>(source + (r * source_stride + c) * kBytes, std::min(kBlock, rows - r),
                         std::min(kBlock, columns - c), source_stride, target + (c * target_stride + r) * kBytes,
                         target_stride);
    }
  }
}

}  // namespace

void transpose(const std::byte* source, index_t rows, index_t columns, index_t source_stride, std::byte* target,
               index_t target_stride, index_t element_bytes) noexcept {
  if (element_bytes == 4) {
    transpose_all<std::uint32_t>(source, rows, columns, source_stride, target, target_stride);
  } else if (element_bytes == 2) {
    transpose_all<std::uint16_t>(source, rows, columns, source_stride, target, target_stride);
  } else {
    transpose_all<std::uint8_t>(source, rows, columns, source_stride, target, target_stride);
  }
}

}  // namespace signsplit
