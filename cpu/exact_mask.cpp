// Which units are open in real numbers: those whose sign is within the rounding bound are settled by the exact accumulator.
// sign_split does so always, the other strategies when Options::exact_mask asks for it.
#include <cmath>

#include "exact_sign.hpp"
#include "tile_sink.hpp"

namespace signsplit::cpu {

/// True when rounding could have put the unit on the wrong side of its threshold. z and up are the unit's pre-activations, the
/// bias included; of a gated unit z is the gate's, and up is not looked at where the gate is closed beyond doubt.
bool TileSink::in_doubt(index_t unit, index_t token, float z, float up) const {
  const Activation a = run_.problem.activation;
  if (a.kind == ActivationKind::identity) return false;
  const double threshold = a.kind == ActivationKind::fatrelu ? static_cast<double>(a.threshold) : 0.0;
  if (std::fabs(static_cast<double>(z) - threshold) <= rounding_bound(first_matrix(), unit, token)) return true;
  return a.kind == ActivationKind::drelu && is_open(a, z) &&
         std::fabs(static_cast<double>(up)) <= rounding_bound(Matrix::up, unit, token);
}

/// An upper bound on |ẑ − z|, for ẑ summed by K tiles and for the canonical ẑ alike: γ_n·(‖x‖‖w‖ + |b|), where ‖x‖‖w‖
/// bounds Σ|x||w|, and n counts the roundings on the longest path: the FMAs of a partial, its tree, and for every K tile
/// the split into two streams and their two sums. The last term covers underflow.
double TileSink::rounding_bound(Matrix matrix, index_t unit, index_t token) const {
  const Weights& w = run_.weights;
  const std::size_t j = static_cast<std::size_t>(unit);
  const std::span<const float> bias = bias_of(matrix);
  const std::span<const float> norms = matrix == Matrix::gate ? w.gate_norms() : w.up_norms();
  const double mass = run_.workspace.x_norms[token] * static_cast<double>(norms[j]) +
                      (bias.empty() ? 0.0 : std::fabs(static_cast<double>(bias[j])));
  const double n = static_cast<double>(run_.shape.d_padded / kAccumulators + 16 +
                                       4 * k_tile_count(run_.plan, run_.shape));
  const double unit_roundoff = 0x1p-24;
  return 1.01 * n * unit_roundoff / (1.0 - n * unit_roundoff) * mass +
         static_cast<double>(2 * run_.shape.d_padded + 64) * 0x1p-149;
}

/// The unit in real numbers, and its pre-activations rounded once. Reads its rows again.
TileSink::Settled TileSink::settle(index_t unit, index_t token) {
  const Activation a = run_.problem.activation;
  const auto exact = [&](Matrix m) {
    (m == Matrix::gate ? statistics_.bytes_gate : statistics_.bytes_up) += row_bytes();
    statistics_.bytes_up_again += row_bytes();
    statistics_.bytes_scales += static_cast<std::uint64_t>(scale_count(run_.problem, 0, run_.shape.d_padded) * kScaleBytes);
    return exact_pre_activation(run_.weights, m, unit, run_.workspace.x + token * run_.shape.d_padded);
  };
  ++statistics_.rechecked;
  ExactSum pre = exact(first_matrix());
  Settled unit_is{false, pre.to_float(), run_.problem.gated ? exact(Matrix::up).to_float() : 0.0f};
  if (a.kind == ActivationKind::fatrelu) pre.add(-static_cast<double>(a.threshold));
  unit_is.open = pre.sign() > 0 && (a.kind != ActivationKind::drelu || unit_is.up > 0.0f);
  return unit_is;
}

/// Whether the unit counts as open: as the f32 pre-activations have it, or with exact_mask, in real numbers.
bool TileSink::counts_as_open(index_t unit, index_t token, float pre, float up) {
  if (!run_.exact_mask || strict(unit, token)) return unit_open(pre, up);
  const bool overflowed = !std::isfinite(pre) || !std::isfinite(up);  // of finite weights and x: the real sum is finite
  return overflowed || in_doubt(unit, token, pre, up) ? settle(unit, token).open : unit_open(pre, up);
}

}  // namespace signsplit::cpu
