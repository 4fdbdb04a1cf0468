// unfused and row_fused on the emulated GPU: the CPU executor's bits and statistics, whatever the order of warps and lanes.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "emulated_check.hpp"
#include "seed.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;

std::vector<Plan> row_plans(const Problem& problem) {
  std::vector<Plan> plans;
  for (const Strategy strategy : {Strategy::row_fused, Strategy::unfused}) {
    for (const bool skip : {false, true}) {
      Plan plan = default_plan(problem, strategy, skip);
      plan.parts = std::min<index_t>(problem.d_ff, 7);
      plan.hidden_tile = 11;
      plans.push_back(plan);
    }
  }
  return plans;
}

TEST_CASE("the CPU's bits, for every activation, dtype and batch") {
  std::mt19937_64 rng(seed());
  for (const ActivationCase& a : all_activations()) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::int8}) {
      const index_t batch = std::vector<index_t>{1, 2, 5}[rng() % 3];
      Problem problem{.d_model = 130, .d_ff = 93, .batch = batch, .dtype = dtype, .activation = a.activation, .gated = a.gated};
      if (dtype == DType::int8 && rng() % 2 == 0) problem.group = 64;
      const Weights weights = gaussian_layer(problem, rng() % 2 == 0, rng).pack();
      const std::vector<float> x = gaussian_input(problem, rng);
      for (const Plan& plan : row_plans(problem)) check_same(weights, plan, x, batch, rng());
    }
  }
}

TEST_CASE("the CPU's bits, wherever x, y and the rows find room") {
  std::mt19937_64 rng(seed() + 1);
  for (const index_t batch : {1, 3}) {
    const Problem problem{.d_model = batch == 1 ? 700 : 350, .d_ff = 61, .batch = batch, .dtype = DType::f32};
    const Weights weights = gaussian_layer(problem, true, rng).pack();
    const std::vector<float> x = gaussian_input(problem, rng);
    std::set<std::tuple<bool, bool, bool>> seen;  // x in shared memory, y, whole rows in a stage
    for (index_t kib = 4; kib <= 64; ++kib) {
      const gpu::DeviceLimits limits{2, kib * 1024, kib % 2 == 0 ? 2 : 3, 32};
      const Plan sample = row_plans(problem)[1];  // skip needs the most room
      const auto launch = gpu::launch_shape(sample, problem, limits);
      if (!launch.fits()) continue;
      const bool whole = launch.stage_columns == walk_shape(problem).d_padded;
      if (!seen.insert({launch.x_in_shared, launch.y_in_shared, whole}).second) continue;
      for (const Plan& plan : row_plans(problem)) check_same(weights, plan, x, batch, rng(), limits);
    }
    for (const auto& in_shared : {std::pair{false, false}, std::pair{true, false}, std::pair{true, true}}) {
      CHECK(std::any_of(seen.begin(), seen.end(), [&](const auto& s) {
        return std::get<0>(s) == in_shared.first && std::get<1>(s) == in_shared.second;
      }));
    }
    CHECK(seen.contains({true, true, true}));
    CHECK(std::any_of(seen.begin(), seen.end(), [](const auto& s) { return !std::get<2>(s); }));
  }
}

TEST_CASE("16 tokens, rows that take several stages") {
  std::mt19937_64 rng(seed() + 2);
  const Problem problem{.d_model = 320, .d_ff = 40, .batch = 16, .dtype = DType::f32, .activation = {ActivationKind::drelu}, .gated = true};
  const Weights weights = gaussian_layer(problem, true, rng).pack();
  const std::vector<float> x = gaussian_input(problem, rng);
  for (const Plan& plan : row_plans(problem)) check_same(weights, plan, x, 16, rng(), {2, 16 * 1024, 2, 32});
}

TEST_CASE("K tiles, tile sizes and the order of warps change no bit") {
  std::mt19937_64 rng(seed() + 3);
  const Problem problem{.d_model = 200, .d_ff = 97, .activation = {ActivationKind::relu}, .gated = true};
  const Weights weights = gaussian_layer(problem, true, rng).pack();
  const std::vector<float> x = gaussian_input(problem, rng);
  for (Plan plan : row_plans(problem)) {
    const Emulation expected = emulate(weights, plan, x, 1, 1);
    for (const index_t hidden_tile : {1, 7, 64}) {
      for (const index_t k_tile : {0, 64}) {
        plan.hidden_tile = hidden_tile;
        plan.k_tile = k_tile;
        check_same(weights, plan, x, 1, rng());
        CHECK(same_bits(emulate(weights, plan, x, 1, rng(), kSmallDevice, {}, false).y, expected.y));
      }
    }
  }
}

TEST_CASE("infinities and NaN are not skipped") {
  std::mt19937_64 rng(seed() + 4);
  for (const bool gated : {false, true}) {
    const Problem problem{.d_model = 64, .d_ff = 40, .batch = 2, .dtype = DType::f32, .gated = gated};
    Layer layer = gaussian_layer(problem, true, rng);
    layer.up[3 * 64 + 5] = INFINITY;
    layer.up_bias[7] = -INFINITY;
    layer.down[10 * 40 + 9] = NAN;
    std::vector<float> x = gaussian_input(problem, rng);
    for (const bool bad_x : {false, true}) {
      if (bad_x) x[70] = INFINITY;
      const Weights weights = layer.pack();
      for (const Plan& plan : row_plans(problem)) check_same(weights, plan, x, 2, rng());
    }
  }
}

// The product of a tiny h and a tiny negative weight rounds to −0; the reduction makes +0 of it.
TEST_CASE("no output is a negative zero") {
  std::mt19937_64 rng(seed() + 7);
  const Problem problem{.d_model = 64, .d_ff = 8, .dtype = DType::f32, .activation = {ActivationKind::relu}};
  const Weights weights = make_layer(problem, false, [n = 0]() mutable { return n++ < 64 * 8 ? 1e-30 : -1e-30; }).pack();
  const std::vector<float> x(64, 1.0f);
  for (const Plan& plan : row_plans(problem)) {
    check_same(weights, plan, x, 1, rng());
    CHECK_FALSE(std::signbit(run_on_cpu(weights, plan, x, 1).y[0]));
  }
}

TEST_CASE("certified: the CPU's decisions and bits") {
  std::mt19937_64 rng(seed() + 6);
  for (const ActivationCase& a : closing_activations()) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::int8}) {
      const index_t batch = rng() % 2 == 0 ? 1 : 3;
      const Problem problem{.d_model = 200, .d_ff = 93, .batch = batch, .dtype = dtype, .activation = a.activation, .gated = a.gated};
      Layer layer = gaussian_layer(problem, true, rng);
      for (float& b : layer.problem.gated ? layer.gate_bias : layer.up_bias) b -= 1.0f;  // few units are open
      const Weights weights = layer.pack();
      std::vector<float> x = gaussian_input(problem, rng);
      if (batch == 3) x[250] = NAN;  // nothing is proven of this token
      Plan plan = default_plan(problem, Strategy::certified, true);
      plan.parts = 5;
      plan.hidden_tile = 13;
      plan.plane_group = rng() % 2 == 0 ? 64 : 128;
      check_same(weights, plan, x, batch, rng(), {3, 32 * 1024, 2, 5});
    }
  }
}

}  // namespace
