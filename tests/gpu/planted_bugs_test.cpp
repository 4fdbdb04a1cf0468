// Planted bugs: each is a rule of the machine that the kernels rely on, broken. Every one must be seen, as a broken rule or as
// wrong bits. What no test could see, no test guards.
#include <doctest/doctest.h>

#include "emulated_check.hpp"
#include "seed.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;
using Kind = Fault::Kind;

constexpr gpu::DeviceLimits kDevice{3, 32 * 1024, 2, 3};
constexpr int kAlways = -1;

struct Planted {
  Kind kind;
  int at;
};
/// Bugs that every strategy must reveal. A bug that is there only once is planted where it cannot be harmless.
const std::vector<Planted> kPlanted = {{Kind::missing_wait, kAlways},      {Kind::missing_release_wait, kAlways},
                                       {Kind::missing_barrier, kAlways},   {Kind::missing_barrier, 0},
                                       {Kind::missing_barrier, 3},         {Kind::missing_grid_barrier, kAlways},
                                       {Kind::missing_grid_barrier, 0},    {Kind::wrong_slot, 0},
                                       {Kind::wrong_slot, 3},              {Kind::short_copy, 0},
                                       {Kind::short_copy, 3}};

struct Layered {
  Weights weights;
  std::vector<float> x;
};

Layered layer(bool gated, std::mt19937_64& rng) {
  const Problem problem{.d_model = 130, .d_ff = 93, .activation = {ActivationKind::relu}, .gated = gated};
  return {gaussian_layer(problem, true, rng).pack(), gaussian_input(problem, rng)};
}

/// Runs the plan unbroken, then with the bug.
bool caught(const Layered& on, const Plan& plan, Planted bug) {
  const Emulation right = emulate(on.weights, plan, on.x, 1, 5, kDevice);
  REQUIRE(right.error == "");
  const Emulation broken = emulate(on.weights, plan, on.x, 1, 5, kDevice, {bug.kind, bug.at});
  return !broken.error.empty() || !same_bits(broken.y, right.y);
}

TEST_CASE("planted bugs are caught in every kernel") {
  std::mt19937_64 rng(seed() + 5);
  for (const bool gated : {false, true}) {
    const Layered on = layer(gated, rng);
    const Problem problem = on.weights.problem(1);
    std::vector<Plan> plans;
    for (const bool skip : {false, true}) {
      for (const Strategy s : {Strategy::row_fused, Strategy::unfused}) plans.push_back(default_plan(problem, s, skip));
    }
    plans.push_back(default_plan(problem, Strategy::certified, true));
    plans.push_back(default_plan(problem, Strategy::sign_split, true));
    for (Plan& plan : plans) {
      plan.parts = 7;
      plan.hidden_tile = 11;
      for (const Planted bug : kPlanted) {
        INFO(describe(problem), " ", label(plan), ", bug ", static_cast<int>(bug.kind), " at ", bug.at);
        CHECK(caught(on, plan, bug));
      }
      const bool lists = plan.skip || plan.strategy == Strategy::sign_split;
      INFO(describe(problem), " ", label(plan));
      if (lists) CHECK(caught(on, plan, {Kind::missing_list_wait, kAlways}));
      if (plan.strategy == Strategy::unfused) CHECK(caught(on, plan, {Kind::missing_primary_wait, 0}));
    }
  }
}

TEST_CASE("the comparison itself sees one wrong bit") {
  std::mt19937_64 rng(seed() + 6);
  const Layered on = layer(false, rng);
  const Plan plan = default_plan(on.weights.problem(1), Strategy::row_fused);
  Emulation got = emulate(on.weights, plan, on.x, 1, 5, kDevice);
  const Expected expected = run_on_cpu(on.weights, plan, on.x, 1);
  CHECK(same_bits(got.y, expected.y));
  got.y[77] = std::nextafter(got.y[77], 100.0f);
  CHECK_FALSE(same_bits(got.y, expected.y));
}

}  // namespace
