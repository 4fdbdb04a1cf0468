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

}  // namespace signsplit::gpu
