// Byte counts against a loop nest written here, without the walk, with random decisions for every unit.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "seed.hpp"
#include "signsplit/sim/predict.hpp"

using namespace signsplit;
using namespace signsplit::sim;

namespace {

using Random = std::mt19937_64;

bool coin(Random& random, double p) { return std::uniform_real_distribution<double>(0, 1)(random) < p; }
index_t pick(Random& random, index_t low, index_t high) { return std::uniform_int_distribution<index_t>(low, high)(random); }

/// What the data decide of one unit.
struct Unit {
  std::uint64_t open_tokens = 0, rechecked = 0;
  bool gate_open = false;
  std::vector<bool> pushed;  ///< per down_tile event
  bool repaired = false, redone = false;
};

Unit random_unit(Random& random, const Plan& plan, const Problem& problem, std::size_t events) {
  Unit unit;
  for (index_t b = 0; b < problem.batch; ++b) unit.open_tokens += coin(random, 0.4);
  unit.gate_open = unit.open_tokens > 0 || coin(random, 0.1);
  unit.pushed.assign(events, true);
  if (plan.skip) {
    for (std::size_t e = 0; e < events; ++e) unit.pushed[e] = coin(random, 0.4);
  }
  if (plan.strategy == Strategy::sign_split) {
    unit.repaired = plan.repair != Repair::none && coin(random, 0.3);
    unit.redone = coin(random, 0.1);
    for (index_t b = 0; b < problem.batch; ++b) unit.rechecked += coin(random, 0.05);
  }
  return unit;
}

struct Case {
  Problem problem;
  Plan plan;
};

/// The accounting rules, unit by unit.
Statistics brute_force(const Case& c, Random& random) {
  const Problem& problem = c.problem;
  const Plan& plan = c.plan;
  const auto u = [](index_t n) { return static_cast<std::uint64_t>(n); };
  const index_t padded = (problem.d_model + 63) / 64 * 64, size = problem.dtype == DType::f32 ? 4 : 2;
  const std::uint64_t row = u(padded * size);
  const bool split = plan.strategy == Strategy::sign_split;
  index_t k_tiles = 1;
  if (plan.k_tile > 0) k_tiles = (padded + plan.k_tile - 1) / plan.k_tile;
  const std::size_t events = split ? static_cast<std::size_t>(k_tiles) : 1;
  Statistics s;
  index_t first = 0;
  for (index_t part = 0; part < plan.parts; ++part) {
    const index_t units = problem.d_ff / plan.parts + (part < problem.d_ff % plan.parts ? 1 : 0);
    s.bytes_x += u(problem.batch * padded * 4);
    s.bytes_y += u(problem.batch * padded * 4);
    const index_t tiles = (units + plan.hidden_tile - 1) / plan.hidden_tile;
    s.tiles += u(tiles * k_tiles) + u(tiles) * events;
    for (index_t j = first; j < first + units; ++j) {
      const Unit unit = random_unit(random, plan, problem, events);
      s.active += unit.open_tokens;
      s.active_union += unit.open_tokens > 0;
      if (problem.gated) s.bytes_gate += row;
      if (!(problem.gated && plan.skip && !split) || unit.gate_open) s.bytes_up += row;
      if (plan.strategy == Strategy::unfused) s.bytes_h += u(2 * problem.batch * 4);
      bool read = false;
      for (const bool pushed : unit.pushed) {
        if (!pushed) continue;
        ++s.pushed_rows;
        s.bytes_down += row;
        s.bytes_down_again += read ? row : 0;
        read = true;
      }
      if (unit.repaired) {
        ++s.repaired;
        s.bytes_down += row;
        s.bytes_down_again += read ? row : 0;
      }
      const std::uint64_t again = (u(unit.redone ? 1 : 0) + unit.rechecked) * row;
      s.redone += unit.redone;
      s.rechecked += unit.rechecked;
      s.bytes_up += again;
      s.bytes_gate += problem.gated ? again : 0;
      s.bytes_up_again += again * (problem.gated ? 2 : 1);
    }
    first += units;
  }
  s.bytes_y += u(plan.parts * problem.batch * padded * 4);
  return s;
}

Case random_case(Random& random) {
  Case c;
  Problem& problem = c.problem;
  problem = {pick(random, 1, 700), pick(random, 1, 300), pick(random, 1, 5), coin(random, 0.5) ? DType::f32 : DType::bf16, {}, coin(random, 0.4)};
  Plan& plan = c.plan;
  plan.strategy = static_cast<Strategy>(pick(random, 0, 2));
  if (plan.strategy == Strategy::sign_split) {
    plan.variant = problem.gated ? Variant::telescoping : static_cast<Variant>(pick(random, 1, 4));
    const bool repairs = plan.variant == Variant::interim || plan.variant == Variant::streams;
    plan.repair = repairs ? static_cast<Repair>(pick(random, 1, 3)) : Repair::none;
  }
  plan.skip = coin(random, 0.5);
  plan.parts = pick(random, 1, std::min<index_t>(problem.d_ff, 20));
  plan.hidden_tile = pick(random, 1, 70);
  plan.k_tile = coin(random, 0.3) ? 0 : 64 * pick(random, 1, (problem.d_model + 63) / 64);
  plan.reduce_tile = 64 * pick(random, 1, 12);
  return c;
}

/// The first counter that differs, by name; empty when none does.
std::string difference(const Statistics& a, const Statistics& b) {
  const std::tuple<const char*, std::uint64_t, std::uint64_t> fields[] = {
      {"bytes_up", a.bytes_up, b.bytes_up}, {"bytes_gate", a.bytes_gate, b.bytes_gate}, {"bytes_down", a.bytes_down, b.bytes_down},
      {"bytes_up_again", a.bytes_up_again, b.bytes_up_again}, {"bytes_down_again", a.bytes_down_again, b.bytes_down_again},
      {"bytes_x", a.bytes_x, b.bytes_x}, {"bytes_h", a.bytes_h, b.bytes_h}, {"bytes_y", a.bytes_y, b.bytes_y},
      {"tiles", a.tiles, b.tiles}, {"active", a.active, b.active}, {"active_union", a.active_union, b.active_union},
      {"pushed_rows", a.pushed_rows, b.pushed_rows}, {"repaired", a.repaired, b.repaired}, {"redone", a.redone, b.redone},
      {"rechecked", a.rechecked, b.rechecked}};
  for (const auto& [name, left, right] : fields) {
    if (left != right) return std::string(name) + ": " + std::to_string(left) + " against " + std::to_string(right);
  }
  return a == b ? "" : "another counter";
}

}  // namespace

TEST_CASE("counts equal a brute-force loop nest, decisions and all") {
  Random random(test::seed());
  int checked = 0;
  for (int i = 0; i < 3000; ++i) {
    const Case c = random_case(random);
    if (!validate(c.plan, c.problem).ok()) continue;
    const Statistics executed = brute_force(c, random);
    CAPTURE(i);
    CAPTURE(to_json(c.plan));
    CAPTURE(describe(c.problem));
    const Statistics counted = count(c.plan, c.problem, activity_from(executed, c.plan, c.problem));
    CHECK(difference(counted, executed) == "");
    ++checked;
  }
  CHECK(checked > 1000);
}

TEST_CASE("the comparison would see a single byte, row or tile") {
  Random random(test::seed());
  const Case c{{100, 50, 2, DType::bf16, {}, false}, default_plan({100, 50, 2, DType::bf16, {}, false}, Strategy::row_fused)};
  const Statistics executed = brute_force(c, random);
  Case other = c;
  other.problem.d_ff = 51;
  CHECK_FALSE(count(other.plan, other.problem, activity_from(executed, c.plan, c.problem)) == executed);
  other = c;
  other.plan.hidden_tile = 7;
  CHECK_FALSE(count(other.plan, other.problem, activity_from(executed, c.plan, c.problem)) == executed);
  Activity activity = activity_from(executed, c.plan, c.problem);
  activity.repaired = *activity.repaired + 1.0 / 50;
  CHECK_FALSE(count(c.plan, c.problem, activity) == executed);
}

TEST_CASE("a dense layer is read once, whatever the fused plan") {
  const Problem problem{768, 3072, 1, DType::bf16, {}, false};
  for (const Strategy strategy : {Strategy::unfused, Strategy::row_fused}) {
    const Statistics s = count(default_plan(problem, strategy), problem, {});
    CHECK(s.bytes_up == 768u * 3072u * 2u);
    CHECK(s.bytes_down == 768u * 3072u * 2u);
    CHECK(s.bytes_h == (strategy == Strategy::unfused ? 2u * 3072u * 4u : 0u));
    CHECK(s.active == 3072u);
  }
}

TEST_CASE("nonsense gives zeros, not crashes") {
  const Problem problem{64, 10, 1, DType::f32, {}, false};
  Plan plan;
  plan.parts = 0;
  CHECK(count(plan, problem, {}) == Statistics{});
  plan = default_plan(problem, Strategy::row_fused, true);
  Activity activity;
  activity.active = -1.0;
  activity.pushed = 0.0 / 1.0 - 5.0;
  CHECK(count(plan, problem, activity).pushed_rows == 0);
}
