// Approximate: a real number known to double precision, together with how far an f32 evaluation of it may be off. The
// algebra of the error bound (docs/exactness.md): every rule here is a line of its derivation.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "real_activation.hpp"
#include "signsplit/activation.hpp"

namespace signsplit {

inline constexpr double kRoundoff32 = 0x1p-24;   // u: half an ulp of f32, relative
inline constexpr double kRoundoff64 = 0x1p-52;   // twice that of double: room for the products of such errors
inline constexpr double kUnderflow32 = 0x1p-149; // twice the most that an f32 operation loses by underflow

/// What may come above this might overflow in f32 (a sum of two such can): no bound is given for it.
inline constexpr double kLargest = 0x1p126;

/// γ_n = n·u / (1 − n·u), what n roundings in a chain can do, relative; +∞ where n·u > 1/2 and so γ_n > 1.
inline double gamma(index_t n) {
  const double nu = static_cast<double>(n) * kRoundoff32;
  return nu <= 0.5 ? nu / (1.0 - nu) : std::numeric_limits<double>::infinity();
}

/// A certificate's residual codes count, in scales, this much of ‖R‖ for a group of so many columns: 255 of them are half a scale for
/// every element.
inline double residual_unit(index_t columns) { return std::sqrt(static_cast<double>(columns)) / 510.0; }

/// A real r and its f32 evaluation r̂: |r − value| ≤ slack and |r̂ − r| ≤ error.
struct Approximate {
  double value = 0.0, slack = 0.0, error = 0.0;

  /// |r̂ − value| at most.
  [[nodiscard]] double reach() const { return slack + error; }
  /// |r| and |r̂| at most.
  [[nodiscard]] double largest() const { return std::abs(value) + reach(); }
  /// Both r and r̂ are ≤ t.
  [[nodiscard]] bool surely_at_most(double t) const { return value + reach() <= t; }
  /// Both r and r̂ are > t.
  [[nodiscard]] bool surely_above(double t) const { return value - reach() > t; }
  /// r and r̂ are zero: not computed, but known.
  [[nodiscard]] bool is_zero() const { return value == 0.0 && slack == 0.0 && error == 0.0; }
};

/// r·s and fl(r̂·ŝ). A factor that is known to be zero (a closed gate) gives a zero.
inline Approximate multiply(const Approximate& a, const Approximate& b) {
  if (a.is_zero() || b.is_zero()) return {};
  if (!(a.largest() * b.largest() <= kLargest)) return {a.value * b.value, 0.0, std::numeric_limits<double>::infinity()};
  const double real_a = std::abs(a.value) + a.slack, real_b = std::abs(b.value) + b.slack;
  return {a.value * b.value, a.slack * real_b + std::abs(a.value) * b.slack + kRoundoff64 * std::abs(a.value * b.value),
          a.error * b.largest() + real_a * b.error + kRoundoff32 * a.largest() * b.largest() + kUnderflow32};
}

/// gelu, gelu_tanh or silu of r, and of r̂ by an evaluation that is off by at most `relative`·|r̂|. |f′| ≤ 1.1290 (gelu, at z = √2: Φ(z) + z·φ(z); gelu_tanh:
/// 1.12899...; silu: 1.0998...), and |f(z)| ≤ |z|.
inline Approximate activate_smooth(ActivationKind kind, const Approximate& z, double relative) {
  constexpr double kSlope = 1.13;
  return {static_cast<double>(real_activation(kind, static_cast<long double>(z.value))), kSlope * z.slack + kRoundoff64 * std::abs(z.value),
          kSlope * z.error + relative * z.largest() + kUnderflow32};
}

/// The activation of one pre-activation, or the gate's factor: the real one of r, and the f32 one of r̂.
inline Approximate activate(Activation a, const Approximate& z) {
  if (a.kind == ActivationKind::identity) return z;
  if (is_smooth(a)) return activate_smooth(a.kind, z, (1.0 + 0x1p-18) * kRoundoff32);  // 0.5 + 2^-19 ulp
  const double threshold = a.kind == ActivationKind::fatrelu ? static_cast<double>(a.threshold) : 0.0;
  if (z.surely_at_most(threshold)) return {};
  if (a.kind == ActivationKind::fatrelu && !z.surely_above(threshold)) {
    // In doubt at the jump: one of the two may be zero, the other not.
    return {z.value > threshold ? z.value : 0.0, std::abs(z.value) + z.slack, z.largest()};
  }
  const Approximate open{std::max(z.value, 0.0), z.slack, z.error};  // max(·, 0) is 1-Lipschitz
  return a.kind == ActivationKind::relu2 ? multiply(open, open) : open;
}

/// h of a gated unit.
inline Approximate activate_gated(Activation a, const Approximate& gate, const Approximate& up) {
  const Approximate factor = a.kind == ActivationKind::drelu ? activate(a, up) : up;
  return multiply(activate(a, gate), factor);
}

}  // namespace signsplit
