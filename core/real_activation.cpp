#include "real_activation.hpp"

#include <cmath>
#include <limits>

namespace signsplit {

long double real_activation(ActivationKind kind, long double z) noexcept {
  constexpr long double kRootHalf = 0.70710678118654752440084436210484904L;  // 1/√2
  constexpr long double kLinear = 1.59576912160573071175978423973752747L;    // 2·√(2/π)
  if (z == -std::numeric_limits<long double>::infinity()) return -0.0L;
  if (kind == ActivationKind::gelu) return z / 2.0L * std::erfc(-z * kRootHalf);
  const long double exponent = kind == ActivationKind::silu ? z : kLinear * (z + 0.044715L * z * z * z);
  return z / (1.0L + std::exp(-exponent));
}

long double real_activation_error(long double z) noexcept {
  // Where |z| is large the result is z or underflows, and nothing depends on the exponent any more.
  const long double size = std::fmin(std::fabs(z), 16.0L);
  return (8.0L + 2.0L * size * size) * 0x1p-63L;
}

namespace {

/// silu(z) = z/2 + z²/4 − z⁴/48 + ... for |z| < 2^-18. The first two terms can make a midpoint of two f32, of which only the third tells the side; where long
/// double loses it, the step down stands for it.
float rounded_small_silu(float z) noexcept {
  const long double wide = static_cast<long double>(z), square = wide * wide;
  return static_cast<float>(std::nextafter(wide / 2.0L + square / 4.0L - square * square / 48.0L, -std::numeric_limits<long double>::infinity()));
}

}  // namespace

float rounded_activation(ActivationKind kind, float z) noexcept {
  constexpr double kUp = std::numeric_limits<double>::infinity();
  // z/2 + δ with 0 < δ < |z|·2^-40: no f32 and no midpoint of two lies between. Long double would lose δ where z/2 is a midpoint.
  if (z != 0.0f && std::fabs(z) < 0x1p-40f) return static_cast<float>(std::nextafter(0.5 * static_cast<double>(z), kUp));
  if (kind == ActivationKind::silu && z != 0.0f && std::fabs(z) < kSmallSilu) return rounded_small_silu(z);
  return static_cast<float>(real_activation(kind, static_cast<long double>(z)));
}

}  // namespace signsplit
