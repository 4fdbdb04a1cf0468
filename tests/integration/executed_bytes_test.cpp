// The simulator's byte counts against the executor's, for equality: every strategy, variant, repair, batch, dtype.
#include <doctest/doctest.h>

#include <array>

#include "cpu/random_layer.hpp"
#include "seed.hpp"
#include "signsplit/cpu.hpp"
#include "signsplit/residual.hpp"
#include "signsplit/sim/activity.hpp"
#include "signsplit/sim/planner.hpp"
#include "signsplit/sim/predict.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;

void check_equal(const Statistics& counted, const Statistics& executed) {
  CHECK(counted.bytes_up == executed.bytes_up);
  CHECK(counted.bytes_gate == executed.bytes_gate);
  CHECK(counted.bytes_down == executed.bytes_down);
  CHECK(counted.bytes_up_again == executed.bytes_up_again);
  CHECK(counted.bytes_down_again == executed.bytes_down_again);
  CHECK(counted.bytes_scales == executed.bytes_scales);
  CHECK(counted.bytes_x == executed.bytes_x);
  CHECK(counted.bytes_h == executed.bytes_h);
  CHECK(counted.bytes_y == executed.bytes_y);
  CHECK(counted.tiles == executed.tiles);
  CHECK(counted.active == executed.active);
  CHECK(counted.active_union == executed.active_union);
  CHECK(counted.pushed_rows == executed.pushed_rows);
  CHECK(counted.repaired == executed.repaired);
  CHECK(counted.redone == executed.redone);
  CHECK(counted.rechecked == executed.rechecked);
  CHECK(counted.bytes_plane == executed.bytes_plane);
  CHECK(counted.certified == executed.certified);
  CHECK(counted.refined == executed.refined);
  CHECK(counted == executed);
}

TEST_CASE("bytes predicted are bytes executed, exactly") {
  std::mt19937_64 rng(seed());
  for (const auto& [d, f, k_tile] : std::vector<std::array<index_t, 3>>{{1, 1, 64}, {200, 333, 64}, {512, 640, 192}, {96, 1000, 64}}) {
    for (const ActivationCase& a : all_activations()) {
      for (const index_t batch : {1, 3}) {
        const Storage stored = any_storage(rng);
        const Problem problem{d, f, batch, stored.dtype, a.activation, a.gated, stored.group};
        const Weights w = gaussian_layer(problem, true, rng).pack();
        const std::vector<float> x = gaussian_input(problem, rng);
        std::vector<float> y(x.size());
        for (Plan plan : all_plans(problem, k_tile)) {
          plan.parts = std::min<index_t>(f, 1 + static_cast<index_t>(rng() % 6));
          plan.hidden_tile = 1 + static_cast<index_t>(rng() % 48);
          if (plan.strategy == Strategy::certified && rng() % 2 == 0) plan.k_tile = k_tile;
          auto ffn = cpu::Ffn::create(w, plan, batch, {2, {}});
          REQUIRE(ffn);
          REQUIRE(ffn->run(x, y));
          const Statistics executed = ffn->report().statistics;
          INFO(describe(problem), " ", to_json(plan));
          check_equal(sim::count(plan, problem, sim::activity_from(executed, plan, problem)), executed);
        }
      }
    }
  }
}

TEST_CASE("bytes predicted from a recorded mask are the bytes that the recorded call executed, exactly") {
  std::mt19937_64 rng(seed() + 2);
  for (const auto& [d, f, batch] : std::vector<std::array<index_t, 3>>{{1, 1, 1}, {200, 333, 1}, {96, 500, 5}, {512, 640, 3}}) {
    for (const ActivationCase& a : all_activations()) {
      const Storage stored = any_storage(rng);
      const Problem problem{d, f, batch, stored.dtype, a.activation, a.gated, stored.group};
      const Weights w = gaussian_layer(problem, true, rng).pack();
      const std::vector<float> x = gaussian_input(problem, rng);
      std::vector<float> y(x.size());
      sim::RecordedMask mask{batch, f, std::vector<std::uint8_t>(static_cast<std::size_t>(batch * f))};
      for (Plan plan : sim::lossless_default_plans(problem)) {
        if (plan.strategy == Strategy::certified || (plan.skip && a.activation.kind == ActivationKind::drelu)) continue;
        plan.parts = std::min<index_t>(f, 1 + static_cast<index_t>(rng() % 6));
        plan.hidden_tile = 1 + static_cast<index_t>(rng() % 48);
        auto ffn = cpu::Ffn::create(w, plan, batch, {2, {}});
        REQUIRE(ffn);
        REQUIRE(ffn->run(x, y, mask.open));
        INFO(describe(problem), " ", to_json(plan));
        REQUIRE(sim::fits(mask, problem));
        check_equal(sim::count(plan, problem, sim::activity_from(mask, plan, problem)), ffn->report().statistics);
      }
    }
  }
}

TEST_CASE("rows that a residual keeps whole are counted as such") {
  std::mt19937_64 rng(seed() + 2);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const bool gated : {false, true}) {
      const Problem problem{300, 200, 2, dtype, {ActivationKind::relu}, gated};
      Layer layer = gaussian_layer(problem, true, rng);
      std::vector<float>& first = gated ? layer.gate : layer.up;
      for (std::size_t i = 0; i < first.size(); ++i) first[i] *= i / 300 % 3 == 0 && rng() % 9 != 0 ? 0.001f : 1.0f;
      layer.round_to_dtype();
      const Weights w = layer.pack();
      Plan plan = default_plan(problem, Strategy::certified);
      plan.placement = Placement::residual;
      REQUIRE(w.residual(format_of(plan)));
      CHECK((*w.residual(format_of(plan)))->raw_count() > 50);
      const std::vector<float> x = gaussian_input(problem, rng);
      std::vector<float> y(x.size());
      auto ffn = cpu::Ffn::create(w, plan, 2, {2, {}});
      REQUIRE(ffn);
      REQUIRE(ffn->run(x, y));
      const Statistics executed = ffn->report().statistics;
      check_equal(sim::count(plan, problem, sim::activity_from(executed, plan, problem)), executed);
    }
  }
}

TEST_CASE("a mask of many calls counts as their mean") {
  const Problem problem{64, 4, 2, DType::f32, {}, false};
  const Plan plan = default_plan(problem, Strategy::row_fused, true);
  const sim::RecordedMask mask{5, 4, {1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1}};  // calls of 2 and 2; a rest
  const sim::Activity activity = sim::activity_from(mask, plan, problem);
  CHECK(activity.active == 5.0 / 16.0);
  CHECK(activity.active_union == 4.0 / 8.0);
  CHECK(activity.pushed == 4.0 / 8.0);
  Problem gated{64, 4, 2, DType::f32, {}, true};
  CHECK(sim::activity_from(mask, plan, gated).up_rows == 4.0 / 8.0);
  gated.activation.kind = ActivationKind::drelu;  // whose mask does not say which gates are open
  CHECK_FALSE(sim::activity_from(mask, plan, gated).up_rows.has_value());
  CHECK(sim::open_units(mask, 2) == std::vector<std::uint8_t>{1, 0, 0, 0});
  CHECK_FALSE(sim::fits({5, 5, std::vector<std::uint8_t>(25)}, problem).ok());
  CHECK_FALSE(sim::fits({1, 4, std::vector<std::uint8_t>(4)}, problem).ok());
  CHECK_FALSE(sim::fits({2, 4, std::vector<std::uint8_t>(7)}, problem).ok());
}

TEST_CASE("without skip and repairs the bytes need no run: they follow from plan and problem alone") {
  std::mt19937_64 rng(seed() + 1);
  const Problem problem{300, 500, 2, DType::bf16, {ActivationKind::relu}, false};
  const Weights w = gaussian_layer(problem, true, rng).pack();
  const std::vector<float> x = gaussian_input(problem, rng);
  std::vector<float> y(x.size());
  for (const Strategy strategy : {Strategy::unfused, Strategy::row_fused}) {
    const Plan plan = default_plan(problem, strategy);
    auto ffn = cpu::Ffn::create(w, plan, 2, {1, {}});
    REQUIRE(ffn->run(x, y));
    const Statistics counted = sim::count(plan, problem, sim::Activity{.active = 0.123});
    CHECK(weight_bytes(counted) == weight_bytes(ffn->report().statistics));
    CHECK(counted.bytes_h == ffn->report().statistics.bytes_h);
    CHECK(counted.bytes_y == ffn->report().statistics.bytes_y);
  }
}

}  // namespace
