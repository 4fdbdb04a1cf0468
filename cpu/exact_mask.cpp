// Which units are open in real numbers: those whose sign is within the rounding bound are settled by the exact accumulator.
// sign_split does so always, the other strategies when Options::exact_mask asks for it.
#include "exact_sign.hpp"
#include "tile_sink.hpp"

namespace signsplit::cpu {

/// True when rounding could have put the unit on the wrong side of its threshold. z and up are the unit's pre-activations, the
/// bias included; of a gated unit z is the gate's, and up is not looked at where the gate is closed beyond doubt.
bool TileSink::in_doubt(index_t unit, index_t token, float z, float up) const {
  const Activation a = run_.problem.activation;
  return sign_in_doubt(a, z, rounding_bound_of(first_matrix(), unit, token)) ||
         (up_sign_matters(a, z) && sign_in_doubt(a, up, rounding_bound_of(Matrix::up, unit, token)));
}

/// ‖x‖‖w‖ bounds Σ|x||w|.
double TileSink::rounding_bound_of(Matrix matrix, index_t unit, index_t token) const {
  const auto j = static_cast<std::size_t>(unit);
  const std::span<const float> bias = bias_of(matrix);
  const std::span<const float> norms = matrix == Matrix::gate ? run_.weights.gate_norms() : run_.weights.up_norms();
  return rounding_bound(run_.plan, run_.shape, mass_bound(run_.workspace.x_norms[token], norms[j], bias.empty() ? 0.0f : bias[j]));
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
  pre.add(-static_cast<double>(opening_threshold(a)));
  unit_is.open = exactly_open(a, pre.sign() > 0, unit_is.up);
  return unit_is;
}

/// Whether the unit counts as open: as the f32 pre-activations have it, or with exact_mask, in real numbers.
bool TileSink::counts_as_open(index_t unit, index_t token, float pre, float up) {
  const bool open = unit_open(run_.problem.activation, pre, up);
  if (!run_.exact_mask || !closes_units(run_.problem.activation) || strict(unit, token)) return open;
  const bool overflowed = !is_finite(pre) || !is_finite(up);  // of finite weights and x: the real sum is finite
  return overflowed || in_doubt(unit, token, pre, up) ? settle(unit, token).open : open;
}

}  // namespace signsplit::cpu
