// The exact reference: what the FFN is, with one rounding at the end.
#pragma once

#include <span>
#include <vector>

#include "signsplit/plan.hpp"
#include "signsplit/status.hpp"
#include "signsplit/weights.hpp"

namespace signsplit {

enum class ReferenceMode : std::uint8_t {
  staged,     ///< z, h and y are each correctly rounded to f32: what an ideal f32 pipeline gives
  composite,  ///< the real-number value of the whole FFN, rounded once; not of gelu, gelu_tanh and silu, which are transcendental
};

/// Whether ReferenceMode::composite is defined.
constexpr bool has_composite(Activation activation) { return !is_smooth(activation); }
/// The mode that is nearest to real numbers: composite where it is defined.
constexpr ReferenceMode sharpest_mode(Activation activation) {
  return has_composite(activation) ? ReferenceMode::composite : ReferenceMode::staged;
}

struct ReferenceResult {
  std::vector<float> y;              ///< [B, D]
  std::vector<float> z;              ///< [B, F] pre-activations (of a gated FFN the gate's), correctly rounded
  std::vector<float> h;              ///< [B, F] hidden activations, rounded once (composite) or per stage (staged)
  std::vector<std::uint8_t> active;  ///< [B, F] 1 where the unit is open: decided on the exact real number
};

/// Computes the FFN exactly. x is [batch, D]; threads 0 means all. invalid_argument when x has another size, or the mode is not defined for
/// the activation.
[[nodiscard]] Result<ReferenceResult> reference(const Weights& weights, std::span<const float> x, index_t batch,
                                                ReferenceMode mode, int threads = 0);

/// For every output a bound on |ŷ − y|: ŷ of any correct execution of `plan`, y the composite reference *before* its
/// rounding; the staged reference is within the same bound of it. Derived in docs/exactness.md: γ_n·Σ|·||·| for each sum with n the longest chain of roundings in it, carried
/// through the activation by its Lipschitz constant, with the mass that sign_split pushes and takes back. For
/// Variant::ignore the missing repair is in it. [batch, D]; +∞ where a value is not finite.
[[nodiscard]] Result<std::vector<double>> error_bound(const Plan& plan, const Weights& weights, std::span<const float> x,
                                                      index_t batch);

/// Floats between a and b: 0 for equal (and for −0 and +0, and for two NaNs), the maximum for a NaN against a number.
[[nodiscard]] std::uint64_t ulp_distance(float a, float b) noexcept;

}  // namespace signsplit
