// Types of stored weights, so that a kernel's element type says how it is read. (The public ones of dtype.hpp come with
// standard headers, which kernel files do not include.)
#pragma once

#include "signsplit/portability.hpp"

namespace signsplit::cpu {

struct Bf16 {
  std::uint16_t bits;
};
struct F16 {
  std::uint16_t bits;
};
using Int8 = signed char;  // q of a weight scale·q

namespace {

/// bfloat16: the upper half of a float.
inline float widen(std::uint16_t bf16_bits) {
  const std::uint32_t bits = static_cast<std::uint32_t>(bf16_bits) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace
}  // namespace signsplit::cpu
