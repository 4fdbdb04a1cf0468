// Rows of packed weights, widened to f32 (exactly) by the piece: for the loops that read every weight.
#pragma once

#include <cstring>
#include <span>

#include "signsplit/dtype.hpp"

namespace signsplit {

/// Elements [begin, begin + out.size()) of a row of `dtype` that starts at `row`.
inline void widen(DType dtype, const std::byte* row, index_t begin, std::span<float> out) {
  const std::byte* const first = row + begin * dtype_bytes(dtype);
  if (dtype == DType::f32) {
    std::memcpy(out.data(), first, out.size_bytes());
    return;
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    bf16 value;
    std::memcpy(&value, first + 2 * i, sizeof value);
    out[i] = to_float(value);
  }
}

}  // namespace signsplit
