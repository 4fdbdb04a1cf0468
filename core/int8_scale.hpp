// Scales of int8 weights: bfloat16 values, so that scale·q has at most 8 + 7 significant bits and is exactly an f32.
#pragma once

#include <cmath>

#include "signsplit/dtype.hpp"

namespace signsplit {

inline constexpr float kLargestQ = 127.0f;

/// True for what may be a scale. A subnormal one is a multiple of 2^-133, and so is its product with an integer: exact too.
inline bool is_scale(float scale) {
  return scale >= 0.0f && !std::signbit(scale) && std::isfinite(scale * kLargestQ) && to_float(to_bf16(scale)) == scale;
}

/// The smallest bfloat16 s with 127·s ≥ largest, for a finite largest ≥ 0. Products of 127 and a float are exact in double.
inline bf16 scale_for(float largest) {
  const auto covers = [largest](bf16 s) { return 127.0 * static_cast<double>(to_float(s)) >= static_cast<double>(largest); };
  bf16 scale = to_bf16(largest / kLargestQ);
  while (!covers(scale)) ++scale.bits;                                        // the next bfloat16 upwards
  while (scale.bits > 0 && covers({static_cast<std::uint16_t>(scale.bits - 1)})) --scale.bits;
  return scale;
}

/// w / scale rounded to the nearest integer, ties to even; 0 where the scale is 0.
inline std::int8_t quantized(float w, double scale) {
  return scale == 0.0 ? std::int8_t{0} : static_cast<std::int8_t>(std::nearbyint(static_cast<double>(w) / scale));
}

}  // namespace signsplit
