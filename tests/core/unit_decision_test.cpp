// What both executors decide of a unit and a token, against the definitions of docs/sign-split.md on small integers, of which
// no sum rounds. The executors' own tests compare CPU and GPU: an error in what they share would show in neither.
#include "signsplit/unit_decision.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "seed.hpp"

namespace {

using namespace signsplit;

constexpr Activation kRelu{ActivationKind::relu}, kRelu2{ActivationKind::relu2}, kIdentity{ActivationKind::identity}, kDrelu{ActivationKind::drelu};
constexpr Activation fatrelu(float threshold) { return {ActivationKind::fatrelu, threshold}; }
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

Plan split_plan(Variant variant, Repair repair = Repair::selective) {
  Plan plan;
  plan.strategy = Strategy::sign_split;
  plan.variant = variant;
  plan.repair = repair;
  return plan;
}

/// K tiles of a unit: Σx·w and Σ|x||w|, whole numbers of the same parity, |z| ≤ absolute.
struct Tile {
  float z = 0, up = 0, absolute = 0;
};
std::vector<Tile> random_tiles(std::mt19937_64& rng) {
  std::vector<Tile> tiles(1 + rng() % 5);
  for (Tile& tile : tiles) {
    const int z = static_cast<int>(rng() % 21) - 10;
    tile = {static_cast<float>(z), static_cast<float>(rng() % 21) - 10.0f, static_cast<float>(std::abs(z) + 2 * static_cast<int>(rng() % 4))};
  }
  return tiles;
}

struct Pushed {
  SplitUnit unit;
  float sum = 0;
};
Pushed push_all(const Plan& plan, const Problem& problem, const std::vector<Tile>& tiles) {
  Pushed pushed;
  for (const Tile& tile : tiles) {
    const float c = push_coefficient(plan, problem, pushed.unit, tile.z, problem.gated ? tile.up : 0.0f, tile.absolute);
    REQUIRE(is_finite(c));
    pushed.sum += c;
  }
  return pushed;
}

static_assert(unit_open(kRelu, 1.0f, 0.0f) && !unit_open(kRelu, 0.0f, 0.0f) && !unit_open(fatrelu(2.0f), 2.0f, 0.0f));

}  // namespace

TEST_CASE("what is pushed and the correction add up to h, whatever the tiles") {
  std::mt19937_64 rng(test::seed());
  for (int round = 0; round < 300; ++round) {
    const std::vector<Tile> tiles = random_tiles(rng);
    float z = 0, up = 0, positive = 0, negative = 0, streams_positive = 0;
    for (const Tile& tile : tiles) {
      z += tile.z;
      up += tile.up;
      positive += std::max(tile.z, 0.0f);
      negative += std::min(tile.z, 0.0f);
      streams_positive += (tile.absolute + tile.z) / 2;
    }
    for (const Activation a : {kRelu, kRelu2, fatrelu(3.0f), kIdentity}) {
      const Problem problem{.d_model = 64, .d_ff = 1, .activation = a};
      const bool open = a == kIdentity || z > (a == fatrelu(3.0f) ? 3.0f : 0.0f);
      const float h = !open ? 0.0f : a == kRelu2 ? z * z : z;
      CAPTURE(static_cast<int>(a.kind));
      CAPTURE(z);
      for (const Variant variant : {Variant::interim, Variant::streams, Variant::telescoping, Variant::ignore}) {
        CAPTURE(static_cast<int>(variant));
        const Plan plan = split_plan(variant, variant == Variant::ignore || variant == Variant::telescoping ? Repair::none : Repair::selective);
        const Pushed pushed = push_all(plan, problem, tiles);
        CHECK(split_pre(plan, pushed.unit) == z);
        CHECK(unit_open(a, z, 0.0f) == open);
        CHECK(unit_h(problem, z, 0.0f, false) == h);
        const Correction correction = signsplit::correction(plan, problem, pushed.unit, open, false);
        const Correction settled = settled_correction(plan, problem, pushed.unit, open, z, 0.0f);
        CHECK_FALSE(correction.redo);
        CHECK_FALSE(settled.redo);
        if (variant == Variant::ignore) {
          CHECK(correction.c == 0.0f);
          CHECK(settled.c == 0.0f);
          continue;
        }
        CHECK(pushed.sum + correction.c == h);
        CHECK(pushed.sum + settled.c == h);
        if (variant == Variant::telescoping) CHECK(correction.c == 0.0f);
        if (variant == Variant::telescoping) continue;
        if (variant == Variant::interim && a.kind == ActivationKind::identity) CHECK(correction.c == 0.0f);
        CHECK(pushed.unit.positive == (variant == Variant::interim ? positive : streams_positive));
        CHECK(pushed.unit.positive + pushed.unit.negative == z);
        if (variant == Variant::interim) CHECK(pushed.unit.negative == negative);

        const Plan redo = split_plan(variant, Repair::redo);
        CHECK(signsplit::correction(redo, problem, pushed.unit, open, false).redo == (correction.c != 0.0f));
        CHECK_FALSE(signsplit::correction(redo, problem, pushed.unit, open, true).redo);  // the exact sum has settled it
      }
    }
    for (const Activation a : {kRelu, kDrelu}) {  // gated: telescoping alone
      const Problem problem{.d_model = 64, .d_ff = 1, .activation = a, .gated = true};
      const Plan plan = split_plan(Variant::telescoping, Repair::none);
      const Pushed pushed = push_all(plan, problem, tiles);
      const float h = z > 0 && (a.kind != ActivationKind::drelu || up > 0) ? z * up : 0.0f;
      CHECK(split_pre(plan, pushed.unit) == z);
      CHECK(split_up(problem, pushed.unit) == up);
      CHECK(pushed.sum == h);
      CHECK(pushed.unit.pushed == h);
    }
  }
}

TEST_CASE("a rounded stream is never on the wrong side of zero") {
  SplitUnit unit;
  const Problem problem{.d_model = 64, .d_ff = 1, .activation = kIdentity};
  CHECK(push_coefficient(split_plan(Variant::streams), problem, unit, -3.0f, 0.0f, std::nextafter(3.0f, 0.0f)) == 0.0f);
  CHECK(unit.positive == 0.0f);
  CHECK(unit.negative == -3.0f);
}

TEST_CASE("pushing ends where something is not finite, and what was pushed stays as it was") {
  const Problem problem{.d_model = 64, .d_ff = 1};
  for (const Variant variant : {Variant::interim, Variant::streams, Variant::telescoping}) {
    CAPTURE(static_cast<int>(variant));
    for (const float bad : {kInfinity, -kInfinity, kNaN}) {
      SplitUnit unit{1.0f, -2.0f, 1.0f};
      CHECK_FALSE(is_finite(push_coefficient(split_plan(variant), problem, unit, bad, 0.0f, 1.0f)));
      CHECK(unit.pushed == 1.0f);
    }
    for (const float large : {3e38f, -3e38f}) {  // a stream overflows
      SplitUnit unit{variant == Variant::telescoping ? large : std::max(large, 1.0f), std::min(large, -1.0f), 1.0f};
      CHECK_FALSE(is_finite(push_coefficient(split_plan(variant), problem, unit, large, large, 3e38f)));
      CHECK(unit.pushed == 1.0f);
    }
  }
  SplitUnit unit{1.0f, -1.0f, 3e38f};  // what was pushed overflows, though no stream does
  CHECK_FALSE(is_finite(count_push(unit, 3e38f)));
  CHECK(unit.pushed == 3e38f);
}

TEST_CASE("NaN is open, drelu looks at both, and closed is +0") {
  for (const Activation a : {kRelu, kRelu2, fatrelu(1.0f), kIdentity, kDrelu}) {
    CHECK(unit_open(a, kNaN, 1.0f));
    CHECK(unit_open(a, 2.0f, 1.0f));
    CHECK(unit_open(a, 2.0f, -1.0f) == (a.kind != ActivationKind::drelu));
    CHECK(unit_open(a, 2.0f, kNaN));
    CHECK(unit_open(a, -2.0f, 1.0f) == (a.kind == ActivationKind::identity));
    CHECK(exactly_open(a, true, 1.0f));
    CHECK(exactly_open(a, true, 0.0f) == (a.kind != ActivationKind::drelu));
    CHECK_FALSE(exactly_open(a, false, 1.0f));
    CHECK(up_sign_matters(a, 2.0f) == (a.kind == ActivationKind::drelu));
    CHECK_FALSE(up_sign_matters(a, -2.0f));
  }
  const Problem gated{.d_model = 64, .d_ff = 1, .gated = true};
  CHECK_FALSE(std::signbit(unit_h(gated, -1.0f, kInfinity, false)));
  CHECK(unit_h(gated, -1.0f, kInfinity, false) == 0.0f);
  CHECK(std::isnan(unit_h(gated, -1.0f, kInfinity, true)));  // 0 · ∞ shows
}

TEST_CASE("a sign is in doubt up to the bound, around the threshold, and never without one") {
  for (const Activation a : {kRelu, kRelu2, fatrelu(1.0f), kDrelu}) {
    const float t = a.kind == ActivationKind::fatrelu ? 1.0f : 0.0f;
    CHECK(opening_threshold(a) == t);
    for (const float side : {-0.25f, 0.25f}) {
      CHECK(sign_in_doubt(a, t + side, 0.25));
      CHECK_FALSE(sign_in_doubt(a, t + side, 0.2499));
    }
    CHECK(sign_in_doubt(a, t, 0.0));
  }
  CHECK_FALSE(sign_in_doubt(kIdentity, 0.0f, 1.0));
}

TEST_CASE("the rounding bound is gamma of the roundings on the longest path, times the mass") {
  CHECK(mass_bound(2.0, 3.0f, 0.0f) == 6.0);
  CHECK(mass_bound(2.0, 3.0f, -0.5f) == 6.5);
  for (const index_t columns : {index_t{64}, index_t{4096}}) {
    Plan plan = split_plan(Variant::interim);
    for (const index_t k_tile : {index_t{0}, index_t{64}}) {
      plan.k_tile = k_tile;
      const WalkShape shape{columns, 10};
      const double k_tiles = k_tile == 0 ? 1.0 : static_cast<double>(columns / 64);
      const double chain = static_cast<double>(columns / 64) + 7.0 + 3.0 * k_tiles;  // FMAs, tree and bias; streams and their sums
      const double least = chain * 0x1p-24;
      CHECK(rounding_bound(plan, shape, 1.0) > least);
      CHECK(rounding_bound(plan, shape, 1.0) < 4.0 * least);
      CHECK(rounding_bound(plan, shape, 0.0) > static_cast<double>(columns) * 0x1p-149);  // underflow
    }
  }
}
