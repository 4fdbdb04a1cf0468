// sign_split on the emulated GPU: the CPU executor's bits, masks and statistics, for every variant and repair.
#include <doctest/doctest.h>

#include "emulated_check.hpp"
#include "seed.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;

std::vector<Plan> split_plans(const Problem& problem, index_t k_tile) {
  std::vector<Plan> plans;
  for (Plan plan : all_plans(problem, k_tile)) {
    if (plan.strategy != Strategy::sign_split) continue;
    plan.parts = std::min<index_t>(problem.d_ff, 4);
    plan.hidden_tile = 9;
    plans.push_back(plan);
  }
  return plans;
}

constexpr gpu::DeviceLimits kDevice{3, 40 * 1024, 2, 4};

TEST_CASE("sign_split: every variant, repair and activation") {
  std::mt19937_64 rng(seed() + 10);
  int index = 0;
  for (const ActivationCase& a : all_activations()) {
    const index_t batch = rng() % 2 == 0 ? 1 : 3;
    Problem problem{.d_model = 150,
                          .d_ff = 50,
                          .batch = batch,
                          .dtype = static_cast<DType>(index++ % 4),
                          .activation = a.activation,
                          .gated = a.gated};
    if (problem.dtype == DType::int8) problem.group = index < 5 ? 0 : 64;
    const Weights weights = gaussian_layer(problem, rng() % 2 == 0, rng).pack();
    const std::vector<float> x = gaussian_input(problem, rng);
    for (const Plan& plan : split_plans(problem, 64)) check_same(weights, plan, x, batch, rng(), kDevice);
  }
}

// Small integers: many pre-activations are exactly on the threshold, and only the exact sum can tell.
TEST_CASE("sign_split: units on the threshold are settled exactly") {
  std::mt19937_64 rng(seed() + 11);
  for (const ActivationCase& a : all_activations()) {
    Problem problem{.d_model = 130, .d_ff = 40, .batch = 2, .dtype = DType::bf16, .activation = a.activation, .gated = a.gated};
    if (a.activation.kind == ActivationKind::fatrelu) problem.activation.threshold = 1.0f;  // which sums of integers can meet
    const auto draw = [&] { return static_cast<double>(rng() % 3) - 1.0; };
    const Weights weights = make_layer(problem, true, draw).pack();
    std::vector<float> x(260);
    for (float& v : x) v = rng() % 8 == 0 ? static_cast<float>(draw()) : 0.0f;
    for (const Plan& plan : split_plans(problem, 64)) {
      for (const int warps : {2, 3}) check_same(weights, plan, x, 2, rng(), {3, 40 * 1024, warps, 4});  // each with a sum of its own
      if (a.activation.kind != ActivationKind::identity) CHECK(run_on_cpu(weights, plan, x, 2).statistics.rechecked > 0);
    }
  }
}

TEST_CASE("sign_split: infinities, NaN, and streams that overflow") {
  std::mt19937_64 rng(seed() + 12);
  for (const bool gated : {false, true}) {
    const Problem problem{.d_model = 128, .d_ff = 30, .batch = 2, .dtype = DType::f32, .gated = gated};
    Layer layer = gaussian_layer(problem, true, rng);
    for (std::size_t k = 0; k < 128; ++k) layer.up[4 * 128 + k] = k % 2 == 0 ? 3e37f : -3e37f;
    layer.up[3 * 128 + 5] = INFINITY;
    layer.down[10 * 30 + 9] = NAN;
    std::vector<float> x = gaussian_input(problem, rng);
    for (const bool bad_x : {false, true}) {
      if (bad_x) x[200] = -INFINITY;
      const Weights weights = layer.pack();
      for (const Plan& plan : split_plans(problem, 64)) check_same(weights, plan, x, 2, rng(), kDevice);
    }
  }
}

}  // namespace
