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

float rounded_activation(ActivationKind kind, float z) noexcept {
  constexpr double kUp = std::numeric_limits<double>::infinity();
  // z/2 + δ with 0 < δ < |z|·2^-40: no f32 and no midpoint of two lies between. Long double would lose δ where z/2 is a midpoint.
  if (z != 0.0f && std::fabs(z) < 0x1p-40f) return static_cast<float>(std::nextafter(0.5 * static_cast<double>(z), kUp));
  return static_cast<float>(real_activation(kind, static_cast<long double>(z)));
}

}  // namespace signsplit
