// The simulator's byte counts against the executor's, for equality: every strategy, variant, repair, batch, dtype.
#include <doctest/doctest.h>

#include <array>

#include "cpu/random_layer.hpp"
#include "seed.hpp"
#include "signsplit/cpu.hpp"
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
