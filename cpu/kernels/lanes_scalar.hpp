// One lane, no vector unit: the reference that every other instruction set is compared with, bit for bit.
#pragma once

#include <cmath>

#include "stored_types.hpp"

namespace signsplit::cpu {

struct LanesScalar {
  using vector = float;
  static constexpr const char* name = "scalar";
  static constexpr int width = 1;
  static constexpr int batch_tokens = 1, accumulators = 64;
  static constexpr int dot_rows(int) { return 1; }
  static constexpr int add_rows(int) { return 1; }
  static constexpr bool multiplies_bytes = false;  // int8_bytes.hpp
  static constexpr bool asks_next = false;
  static constexpr int stream_lanes = 64;  // partials that one pass of the stream kernel holds in registers

  static vector zero() { return 0.0f; }
  static vector broadcast(float value) { return value; }
  static vector load(const float* p) { return *p; }
  static vector load_in_place(const float* p) { return *p; }
  static void fma_in_place(vector a, vector b, vector& sum) { sum = fma(a, b, sum); }
  static vector load_aligned(const float* p) { return *p; }
  static vector load(const Bf16* p) { return widen(p->bits); }
  static vector load(const F16* p) {
    const std::uint32_t sign = (p->bits & 0x8000u) << 16, magnitude = p->bits & 0x7fffu;
    std::uint32_t bits = magnitude << 13;  // 2^112 too small, subnormals included
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    value *= 0x1p112f;
    __builtin_memcpy(&bits, &value, sizeof value);
    bits |= sign | (magnitude >= 0x7c00u ? 0x7f800000u : 0u);  // infinity and NaN
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
  }
  static vector load(const Int8* p) { return static_cast<float>(*p); }
  static void store_aligned(float* p, vector v) { *p = v; }
  static vector fma(vector a, vector b, vector c) { return std::fma(a, b, c); }
  static vector add(vector a, vector b) { return a + b; }
  static vector mul(vector a, vector b) { return a * b; }
  static vector abs(vector a) { return std::fabs(a); }
  static float fold(vector v) { return v; }
  static vector fold_all(const vector (&v)[1]) { return v[0]; }
};

}  // namespace signsplit::cpu
