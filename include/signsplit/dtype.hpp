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

/// bfloat16 as stored: a distinct type, so that 16-bit integers are never taken for weights.
struct bf16 {
  std::uint16_t bits;
  friend constexpr bool operator==(bf16, bf16) = default;
};

/// Exact: every bfloat16 is a float.
constexpr float to_float(bf16 value) { return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16); }
constexpr float to_float(float value) { return value; }

/// Rounds to nearest, ties to even; NaN stays NaN (quiet), overflow goes to infinity.
constexpr bf16 to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

}  // namespace signsplit
