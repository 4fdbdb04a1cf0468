// Transposition of row-major matrices of weights: packing turns down [D, F] into rows of hidden units, saving turns it back.
#pragma once

#include <cstddef>

#include "signsplit/portability.hpp"

namespace signsplit {

/// target[c, r] = source[r, c] for a source of [rows, columns] elements of `element_bytes` (1, 2 or 4). Strides count
/// elements. No alignment is asked of either; they must not overlap.
void transpose(const std::byte* source, index_t rows, index_t columns, index_t source_stride, std::byte* target,
               index_t target_stride, index_t element_bytes) noexcept;

}  // namespace signsplit
