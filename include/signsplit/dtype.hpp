// Element types of stored weights, and their exact conversion to f32.
#pragma once

#include <bit>
#include <optional>
#include <string_view>

#include "signsplit/portability.hpp"

namespace signsplit {

enum class DType : std::uint8_t {
  f32,   ///< IEEE binary32
  bf16,  ///< bfloat16: the upper 16 bits of a binary32
  f16,   ///< IEEE binary16
  int8,  ///< scale·q, q in [−127, 127], scales that are bfloat16 values: each weight is exactly a binary32
};

/// Bytes of one element, scales not counted.
SIGNSPLIT_HD constexpr index_t dtype_bytes(DType dtype) {
  return dtype == DType::f32 ? 4 : dtype == DType::int8 ? 1 : 2;
}

/// "f32", "bf16", "f16", "int8".
[[nodiscard]] std::string_view to_string(DType dtype) noexcept;
/// Parses the names of to_string; nullopt for any other text.
[[nodiscard]] std::optional<DType> parse_dtype(std::string_view text) noexcept;

/// Significant bits that the f32 value of a weight can have.
constexpr int significant_bits(DType dtype) {
  return dtype == DType::f32 ? 24 : dtype == DType::bf16 ? 8 : dtype == DType::f16 ? 11 : 15;  // int8: 8 of the scale, 7 of q
}

/// bfloat16 as stored: a distinct type, so that 16-bit integers are never taken for weights.
struct bf16 {
  std::uint16_t bits;
  friend constexpr bool operator==(bf16, bf16) = default;
};

/// Exact: every bfloat16 is a float.
constexpr float to_float(bf16 value) { return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16); }
constexpr float to_float(float value) { return value; }

/// IEEE binary16 as stored.
struct f16 {
  std::uint16_t bits;
  friend constexpr bool operator==(f16, f16) = default;
};

/// Exact: every binary16 is a float, subnormal ones are normal floats. Independent of flush-to-zero modes.
constexpr float to_float(f16 value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16, rest = value.bits & 0x7fffu;
  if (rest < 0x400u) {  // zero or subnormal: a multiple of 2^-24
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(static_cast<float>(rest) * 0x1p-24f) | sign);
  }
  const std::uint32_t bias = rest >= 0x7c00u ? 0x70000000u : 0x38000000u;  // infinities and NaN keep the highest exponent
  return std::bit_cast<float>(((rest << 13) + bias) | sign);
}

/// Rounds to nearest, ties to even; NaN stays NaN (quiet), overflow goes to infinity.
constexpr f16 to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  std::uint32_t rest = 0;
  if (magnitude > 0x7f800000u) {
    rest = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  } else if (magnitude >= 0x477ff000u) {  // 65520, the least that rounds up to 2^16
    rest = 0x7c00u;
  } else if (magnitude < 0x38800000u) {   // below 2^-14: adding 0.5, whose ulp is 2^-24, rounds to a multiple of that
    rest = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - std::bit_cast<std::uint32_t>(0.5f);
  } else {
    rest = ((magnitude + 0xfffu + ((magnitude >> 13) & 1u)) >> 13) - (112u << 10);
  }
  return {static_cast<std::uint16_t>(sign | rest)};
}

/// Rounds to nearest, ties to even; NaN stays NaN (quiet), overflow goes to infinity.
constexpr bf16 to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

}  // namespace signsplit
