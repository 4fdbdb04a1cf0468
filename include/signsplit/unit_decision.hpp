// What is decided of one hidden unit and one token: whether it is open, whether its sign is in doubt, and under sign_split what
// a K tile pushes and what repairs the pushes (docs/sign-split.md). One definition for host and device: an executor brings the
// sums, and knows where it keeps them. Pre-activations include the bias; of a gated unit `pre` is the gate's, `up` the other.
#pragma once

#include <limits>

#include "signsplit/problem.hpp"
#include "signsplit/walk.hpp"

namespace signsplit {

/// Neither infinite nor NaN.
SIGNSPLIT_HD constexpr bool is_finite(float value) { return value - value == 0.0f; }
SIGNSPLIT_HD constexpr double magnitude(double value) { return value < 0.0 ? -value : value; }

/// Whether a unit is open, as its f32 pre-activations have it. NaN is open. Only drelu looks at `up`.
SIGNSPLIT_HD constexpr bool unit_open(Activation a, float pre, float up) {
  return is_open(a, pre) && (a.kind != ActivationKind::drelu || !(up <= 0.0f));
}
/// h of a unit. `ieee`: the weights of the unit or x are not finite (activate_gated).
SIGNSPLIT_HD constexpr float unit_h(const Problem& problem, float pre, float up, bool ieee) {
  return problem.gated ? activate_gated(problem.activation, pre, up, ieee) : activate(problem.activation, pre);
}

// ---- signs in doubt ----

/// A unit is open above it.
SIGNSPLIT_HD constexpr float opening_threshold(Activation a) { return a.kind == ActivationKind::fatrelu ? a.threshold : 0.0f; }

/// An upper bound on Σ|x||w| + |b|, from upper bounds on the Euclidean norms of x and of the row; bias 0: none.
SIGNSPLIT_HD constexpr double mass_bound(double x_norm, float row_norm, float bias) {
  return x_norm * static_cast<double>(row_norm) + magnitude(static_cast<double>(bias));
}

/// An upper bound on |ẑ − z|, for ẑ summed by K tiles and for the canonical ẑ alike: γ_n·mass, where n counts the roundings
/// on the longest path: the FMAs of a partial, its tree, and for every K tile the split into two streams and their two
/// sums. The last term covers underflow.
SIGNSPLIT_HD constexpr double rounding_bound(const Plan& plan, WalkShape shape, double mass) {
  const double n = static_cast<double>(shape.d_padded / kAccumulators + 16 + 4 * k_tile_count(plan, shape));
  const double unit_roundoff = 0x1p-24;
  return 1.01 * n * unit_roundoff / (1.0 - n * unit_roundoff) * mass + static_cast<double>(2 * shape.d_padded + 64) * 0x1p-149;
}

/// True when an error of at most `bound` could have put a pre-activation on the wrong side of the threshold, if there is one.
SIGNSPLIT_HD constexpr bool sign_in_doubt(Activation a, float pre, double bound) {
  return closes_units(a) && magnitude(static_cast<double>(pre) - static_cast<double>(opening_threshold(a))) <= bound;
}
/// True when the sign of up matters beside that of the gate: where the gate is closed beyond doubt, nobody looks.
SIGNSPLIT_HD constexpr bool up_sign_matters(Activation a, float pre) { return a.kind == ActivationKind::drelu && is_open(a, pre); }

/// Whether a unit is open in real numbers: the exact sum is above the threshold; `up` is the other one, rounded once.
SIGNSPLIT_HD constexpr bool exactly_open(Activation a, bool above_threshold, float up) {
  return above_threshold && (a.kind != ActivationKind::drelu || up > 0.0f);
}

// ---- sign_split ----
// Of units with finite weights and tokens with finite x only: the others push nothing and are computed in canonical order.

/// What is remembered of a unit and token from K tile to K tile.
struct SplitUnit {
  float positive = 0.0f;  ///< A⁺ or P; telescoping: the prefix sum of the first matrix
  float negative = 0.0f;  ///< A⁻ or N; telescoping, gated: the prefix sum of up
  float pushed = 0.0f;    ///< u, what was pushed so far; telescoping: h of the last prefix
};

inline constexpr float kNoMorePushes = std::numeric_limits<float>::infinity();

/// Adds c to what was pushed and returns it; kNoMorePushes, and nothing added, once a stream has overflowed.
SIGNSPLIT_HD constexpr float count_push(SplitUnit& unit, float c) {
  const float total = unit.pushed + c;
  if (!is_finite(unit.positive) || !is_finite(unit.negative) || !is_finite(total)) return kNoMorePushes;
  unit.pushed = total;
  return c;
}

/// The coefficient that a K tile contributes, whose sums are z and up; the bias belongs to the first tile. `absolute` is
/// Σ|x||w|, |bias| included, of streams only. Not finite: the unit cannot be split any further.
SIGNSPLIT_HD constexpr float push_coefficient(const Plan& plan, const Problem& problem, SplitUnit& unit, float z, float up,
                                              float absolute) {
  if (!is_finite(z)) return z;
  if (plan.variant == Variant::telescoping) {
    unit.positive += z;
    unit.negative += up;
    const float h = unit_h(problem, unit.positive, unit.negative, false), c = h - unit.pushed;
    if (!is_finite(unit.positive) || !is_finite(unit.negative) || !is_finite(c)) return kNoMorePushes;
    unit.pushed = h;
    return c;
  }
  if (plan.variant == Variant::streams) {
    const float half = 0.5f * (absolute + z), p = half > 0.0f ? half : 0.0f;
    unit.positive += p;
    unit.negative += z - p;
    return count_push(unit, activate(problem.activation, p));
  }
  unit.positive += z > 0.0f ? z : 0.0f;
  unit.negative += z < 0.0f ? z : 0.0f;
  return count_push(unit, activate(problem.activation, z));
}

/// The pre-activations that the tiles add up to.
SIGNSPLIT_HD constexpr float split_pre(const Plan& plan, const SplitUnit& unit) {
  return plan.variant == Variant::telescoping ? unit.positive : unit.positive + unit.negative;
}
SIGNSPLIT_HD constexpr float split_up(const Problem& problem, const SplitUnit& unit) { return problem.gated ? unit.negative : 0.0f; }

/// What is added at the end of a tile.
struct Correction {
  float c = 0.0f;
  bool redo = false;  ///< compute the unit again instead
};

/// `open` is as split_pre() and split_up() have it. `doubt`: the exact sum was asked, and agreed.
SIGNSPLIT_HD constexpr Correction correction(const Plan& plan, const Problem& problem, const SplitUnit& unit, bool open, bool doubt) {
  const Activation a = problem.activation;
  if (plan.variant == Variant::telescoping || plan.variant == Variant::ignore) return {};
  if (a.kind == ActivationKind::identity && plan.variant == Variant::interim) return {};  // the tiles are the parts of z
  const bool additive = a.kind == ActivationKind::relu || a.kind == ActivationKind::identity;
  const float c = additive ? (open ? unit.negative : -unit.positive)
                           : (open ? activate(a, split_pre(plan, unit)) : 0.0f) - unit.pushed;
  return {c, plan.repair == Repair::redo && c != 0.0f && !doubt};  // what the exact sum settled stays settled
}

/// The same where the exact sum disagreed: `open` and the pre-activations are its.
SIGNSPLIT_HD constexpr Correction settled_correction(const Plan& plan, const Problem& problem, const SplitUnit& unit, bool open,
                                                     float pre, float up) {
  if (plan.variant == Variant::ignore) return {};
  return {(open ? unit_h(problem, pre, up, false) : 0.0f) - unit.pushed, false};
}

}  // namespace signsplit
