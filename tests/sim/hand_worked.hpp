// What the hand-worked predictions share: plain problems, plans of two parts, and a comparison.
#pragma once

#include <doctest/doctest.h>

#include <cmath>

#include "signsplit/plan.hpp"

namespace signsplit::test {

inline Problem dense(index_t d, index_t f, DType dtype = DType::f32) { return {d, f, 1, dtype, {}, false}; }

inline Plan two_parts(const Problem& problem, Strategy strategy, bool skip = false) {
  Plan plan = default_plan(problem, strategy, skip);
  plan.parts = 2;
  return plan;
}

/// A few units in the last place: the expected value is the same formula in another order of operations.
inline void check_close(double value, double expected) { CHECK(std::abs(value - expected) <= 16 * 0x1p-52 * std::abs(expected)); }

}  // namespace signsplit::test
