// The stored weight types, and their exact conversion to f32.
#pragma once

#include "../block.hpp"

namespace signsplit::gpu {

struct WeightF32 {
  using Stored = float;
  static constexpr bool scaled = false;
  SIGNSPLIT_DEVICE static float widen(float stored) { return stored; }
};

struct WeightBf16 {
  using Stored = std::uint16_t;
  static constexpr bool scaled = false;
  SIGNSPLIT_DEVICE static float widen(std::uint16_t stored) { return float_of(static_cast<std::uint32_t>(stored) << 16); }
};

struct WeightF16 {
  using Stored = std::uint16_t;
  static constexpr bool scaled = false;
  SIGNSPLIT_DEVICE static float widen(std::uint16_t stored) {
#if defined(__CUDA_ARCH__)
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(stored));
    return value;
#else
    return to_float(f16{stored});
#endif
  }
};

/// A weight is its scale times this.
struct WeightInt8 {
  using Stored = std::int8_t;
  static constexpr bool scaled = true;
  SIGNSPLIT_DEVICE static float widen(std::int8_t stored) { return static_cast<float>(stored); }
};

}  // namespace signsplit::gpu
