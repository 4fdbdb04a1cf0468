// One lane, no vector unit: the reference that every other instruction set is compared with, bit for bit.
#pragma once

#include <cmath>

#include "signsplit/portability.hpp"

namespace signsplit::cpu {

struct LanesScalar {
  using vector = float;
  static constexpr const char* name = "scalar";
  static constexpr int width = 1;
  static constexpr int rows_per_block = 1, tokens_per_block = 1;  // register blocking of the dot products
  static constexpr int stream_lanes = 64;  // partials that one pass of the stream kernel holds in registers

  static vector zero() { return 0.0f; }
  static vector broadcast(float value) { return value; }
  static vector load(const float* p) { return *p; }
  static vector load_aligned(const float* p) { return *p; }
  static vector load(const std::uint16_t* p) {  // bfloat16: the upper half of a float
    const std::uint32_t bits = static_cast<std::uint32_t>(*p) << 16;
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
  }
  static void store_aligned(float* p, vector v) { *p = v; }
  static vector fma(vector a, vector b, vector c) { return std::fma(a, b, c); }
  static vector add(vector a, vector b) { return a + b; }
  static vector abs(vector a) { return std::fabs(a); }
  static float fold(vector v) { return v; }
};

}  // namespace signsplit::cpu
