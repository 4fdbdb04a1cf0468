// The sign split of one unit and token (docs/sign-split.md): what a K tile pushes, and what repairs the pushes. The same
// decisions, in the same arithmetic, as the CPU executor's.
#pragma once

#include "../kernel_arguments.hpp"
#include "exact_dot.hpp"

namespace signsplit::gpu {

SIGNSPLIT_DEVICE float infinity() { return float_of(0x7f800000u); }

/// What is remembered of a unit and token from K tile to K tile.
struct SplitUnit {
  float positive = 0.0f;  ///< A⁺ or P; telescoping: the prefix sum of the first matrix
  float negative = 0.0f;  ///< A⁻ or N; telescoping, gated: the prefix sum of up
  float pushed = 0.0f;    ///< u, what was pushed so far; telescoping: h of the last prefix
};

/// Adds c to what was pushed and returns it; infinity, and nothing added, once a stream has overflowed.
SIGNSPLIT_DEVICE float count_push(SplitUnit& unit, float c) {
  const float total = unit.pushed + c;
  if (!is_finite(unit.positive) || !is_finite(unit.negative) || !is_finite(total)) return infinity();
  unit.pushed = total;
  return c;
}

/// The coefficient that a K tile with sum z (bias included) contributes; not finite: the unit cannot be split any further.
/// `absolute` is Σ|x||w|, |bias| included; `up` the tile's sum of up; h(pre, up) the activation.
template <class H>
SIGNSPLIT_DEVICE float push_coefficient(const KernelArguments& a, SplitUnit& unit, float z, float up, float absolute, H&& h) {
  if (!is_finite(z)) return z;
  if (a.plan.variant == Variant::telescoping) {
    unit.positive += z;
    unit.negative += up;
    const float now = h(unit.positive, unit.negative), c = now - unit.pushed;
    if (!is_finite(unit.positive) || !is_finite(unit.negative) || !is_finite(c)) return infinity();
    unit.pushed = now;
    return c;
  }
  if (a.plan.variant == Variant::streams) {
    const float half = 0.5f * (absolute + z), p = half > 0.0f ? half : 0.0f;
    unit.positive += p;
    unit.negative += z - p;
    return count_push(unit, activate(a.problem.activation, p));
  }
  unit.positive += z > 0.0f ? z : 0.0f;
  unit.negative += z < 0.0f ? z : 0.0f;
  return count_push(unit, activate(a.problem.activation, z));
}

/// The pre-activation that the tiles add up to.
SIGNSPLIT_DEVICE float split_sum(const KernelArguments& a, const SplitUnit& unit) {
  return a.plan.variant == Variant::telescoping ? unit.positive : unit.positive + unit.negative;
}

/// An upper bound on |ẑ − z|, for ẑ summed by K tiles and for the canonical ẑ alike; mass bounds Σ|x||w| + |b|.
SIGNSPLIT_DEVICE double rounding_bound(const KernelArguments& a, double mass) {
  const double n = static_cast<double>(a.shape.d_padded / kAccumulators + 16 + 4 * k_tile_count(a.plan, a.shape));
  const double unit_roundoff = 0x1p-24;
  return 1.01 * n * unit_roundoff / (1.0 - n * unit_roundoff) * mass + static_cast<double>(2 * a.shape.d_padded + 64) * 0x1p-149;
}

/// True when rounding could have put the unit on the wrong side of its threshold. mass_first, mass_up: of the two matrices.
SIGNSPLIT_DEVICE bool sign_in_doubt(const KernelArguments& a, const SplitUnit& unit, double mass_first, double mass_up) {
  const Activation act = a.problem.activation;
  if (act.kind == ActivationKind::identity) return false;
  const double z = static_cast<double>(split_sum(a, unit));
  const double threshold = act.kind == ActivationKind::fatrelu ? static_cast<double>(act.threshold) : 0.0;
  if (std::fabs(z - threshold) <= rounding_bound(a, mass_first)) return true;
  return act.kind == ActivationKind::drelu && is_open(act, split_sum(a, unit)) &&
         std::fabs(static_cast<double>(unit.negative)) <= rounding_bound(a, mass_up);
}

/// What is added at the end of a tile, when no exact sum was needed or it agreed. `redo`: compute the unit again instead.
SIGNSPLIT_DEVICE float correction(const KernelArguments& a, const SplitUnit& unit, bool open, bool doubt, bool& redo) {
  const ActivationKind kind = a.problem.activation.kind;
  if (a.plan.variant == Variant::telescoping || a.plan.variant == Variant::ignore) return 0.0f;
  if (kind == ActivationKind::identity && a.plan.variant == Variant::interim) return 0.0f;  // the tiles are the parts of z
  const bool additive = kind == ActivationKind::relu || kind == ActivationKind::identity;
  const float c = additive ? (open ? unit.negative : -unit.positive)
                           : (open ? activate(a.problem.activation, split_sum(a, unit)) : 0.0f) - unit.pushed;
  redo = a.plan.repair == Repair::redo && c != 0.0f && !doubt;  // what the exact sum settled stays settled
  return c;
}

}  // namespace signsplit::gpu
