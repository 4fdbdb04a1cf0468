// What the hand-worked predictions share: plain problems, plans of two parts, and a comparison.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <initializer_list>
#include <utility>

#include "sample_machine.hpp"
#include "signsplit/plan.hpp"
#include "signsplit/sim/predict.hpp"

namespace signsplit::test {

inline Problem dense(index_t d, index_t f, DType dtype = DType::f32) { return {d, f, 1, dtype, {}, false}; }

inline Plan two_parts(const Problem& problem, Strategy strategy, bool skip = false) {
  Plan plan = default_plan(problem, strategy, skip);
  plan.parts = 2;
  return plan;
}

/// A few units in the last place: the expected value is the same formula in another order of operations.
inline void check_close(double value, double expected) { CHECK(std::abs(value - expected) <= 16 * 0x1p-52 * std::abs(expected)); }

/// On two threads unless said otherwise.
inline sim::Prediction predicted(const Problem& problem, const Plan& plan, const sim::Machine& machine, const sim::Activity& activity = {},
                                 sim::Residency residency = sim::Residency::cold, int threads = 2) {
  const auto p = sim::predict({problem, plan, activity, residency, threads, {}}, machine);
  REQUIRE_MESSAGE(p.ok(), p.message());
  return *p;
}

/// The sample machine with some other corrections.
inline sim::Machine sample_with(std::initializer_list<std::pair<const char*, double>> values) {
  sim::Machine machine = sample_machine();
  for (const auto& [name, value] : values) machine.model[name].value = value;
  return machine;
}

inline constexpr double kElements = 1024.0 * 4096.0;  // of one matrix of dense(1024, 4096)

}  // namespace signsplit::test
