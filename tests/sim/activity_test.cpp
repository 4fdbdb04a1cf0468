// The Gaussian activity model against drawn data, held to the exact binomial distribution of what is drawn.
#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "normal.hpp"
#include "seed.hpp"
#include "signsplit/sim/activity.hpp"
#include "signsplit/sim/predict.hpp"
#include "signsplit/synthetic.hpp"

using namespace signsplit;
using namespace signsplit::sim;

namespace {

constexpr int kTrials = 20000;

/// log of n choose k · p^k · (1 − p)^(n − k).
double log_binomial(int n, int k, double p) {
  if (p <= 0.0) return k == 0 ? 0.0 : -1e300;
  if (p >= 1.0) return k == n ? 0.0 : -1e300;
  return std::lgamma(n + 1.0) - std::lgamma(k + 1.0) - std::lgamma(n - k + 1.0) + k * std::log(p) + (n - k) * std::log1p(-p);
}

/// The probability of a count at least as far out as `k`, on the side that k lies on.
double tail(int n, int k, double p) {
  double sum = 0;
  if (k > n * p) {
    for (int i = k; i <= n; ++i) sum += std::exp(log_binomial(n, i, p));
  } else {
    for (int i = 0; i <= k; ++i) sum += std::exp(log_binomial(n, i, p));
  }
  return sum;
}

/// Accepts when a count this far out has at least one chance in a hundred million: a dozen checks then fail by chance once
/// in millions of runs. A wrong model of these counts is off by far more.
bool plausible(int count, double p) { return tail(kTrials, count, p) >= 1e-8; }

/// Counts over units drawn from the model: biased first tile, B tokens.
struct Drawn {
  int any_open = 0, wrong = 0, pushed_first = 0, pushed_last = 0, telescoped_last = 0;
};

Drawn draw(double active, int batch, const std::vector<double>& variances, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  const double bias = normal_quantile(active);
  Drawn drawn;
  for (int trial = 0; trial < kTrials; ++trial) {
    bool any_open = false, wrong = false, first = false, last = false, telescoped = false;
    for (int b = 0; b < batch; ++b) {
      double sum = bias, before = 0;
      int positive = 0;
      for (std::size_t t = 0; t < variances.size(); ++t) {
        const double part = std::sqrt(variances[t]) * normal(random), z = part + (t == 0 ? bias : 0.0);
        before = sum - (t == 0 ? bias : 0.0);
        sum += part;
        positive += z > 0;
        if (t == 0) first = first || z > 0;
        if (t + 1 == variances.size()) {
          last = last || z > 0;
          telescoped = telescoped || sum > 0 || before > 0;
        }
      }
      any_open = any_open || sum > 0;
      wrong = wrong || (positive > 0 && positive < static_cast<int>(variances.size()));
    }
    drawn.any_open += any_open;
    drawn.wrong += wrong;
    drawn.pushed_first += first;
    drawn.pushed_last += last;
    drawn.telescoped_last += telescoped;
  }
  return drawn;
}

}  // namespace

TEST_CASE("the checker refuses a slightly wrong probability") {
  CHECK(plausible(2000, 0.1));
  CHECK_FALSE(plausible(2000, 0.12));
  CHECK_FALSE(plausible(2000, 0.085));
  CHECK_FALSE(plausible(kTrials, 0.999));
}

TEST_CASE("interim pushes: expected against drawn") {
  for (const double active : {0.1, 0.5}) {
    for (const index_t batch : {1, 3}) {
      for (const index_t tiles : {2, 4}) {
        const Problem problem{64 * 4, 64, batch, DType::f32, {}, false};
        const Plan plan = default_sign_split_plan(problem, Variant::interim, Repair::selective, true, tiles);
        REQUIRE(validate(plan, problem).ok());
        const std::vector<double> variances(static_cast<std::size_t>(tiles), 1.0 / static_cast<double>(tiles));
        const Drawn drawn = draw(active, static_cast<int>(batch), variances, test::seed());
        const Activity expected = expected_activity(active, plan, problem);
        CAPTURE(active);
        CAPTURE(batch);
        CAPTURE(tiles);
        CHECK(plausible(drawn.any_open, *expected.active_union));
        CHECK(plausible(drawn.wrong, *expected.repaired));
        if (tiles == 2) {
          // `pushed` is the mean over the tiles: the second tile's share follows from the first's.
          const double second = 1.0 - std::pow(0.5, static_cast<double>(batch));
          CHECK(plausible(drawn.pushed_last, second));
          CHECK(plausible(drawn.pushed_first, 2.0 * *expected.pushed - second));
        }
      }
    }
  }
}

TEST_CASE("telescoping pushes: expected against drawn") {
  const Problem problem{128, 64, 1, DType::f32, {}, true};
  const Plan plan = default_sign_split_plan(problem, Variant::telescoping, Repair::none, true, 2);
  REQUIRE(validate(plan, problem).ok());
  for (const double active : {0.05, 0.3, 0.8}) {
    const Drawn drawn = draw(active, 1, {0.5, 0.5}, test::seed() + 1);
    const Activity expected = expected_activity(active, plan, problem);
    CHECK(plausible(drawn.pushed_first + 0, normal_cdf(normal_quantile(active) * std::sqrt(2.0))));
    CHECK(plausible(drawn.telescoped_last, 2.0 * *expected.pushed - normal_cdf(normal_quantile(active) * std::sqrt(2.0))));
    CHECK(*expected.repaired == 0.0);
  }
}

TEST_CASE("bivariate normal: values known in closed form") {
  // P(X ≤ 0, Y ≤ 0) = 1/4 + asin(ρ) / 2π.
  for (const double rho : {0.0, 0.1, 0.5, 0.7, 0.9}) {
    CHECK(std::abs(bivariate_normal_cdf(0, 0, rho) - (0.25 + std::asin(rho) / (2 * 3.14159265358979323846))) < 1e-9);
  }
  CHECK(std::abs(bivariate_normal_cdf(1.0, -0.5, 0.0) - normal_cdf(1.0) * normal_cdf(-0.5)) < 1e-15);
  CHECK(std::abs(bivariate_normal_cdf(8.0, 0.3, 0.8) - normal_cdf(0.3)) < 1e-6);
}

TEST_CASE("plans without anything to decide") {
  const Problem problem{256, 100, 2, DType::f32, {}, false};
  const Activity dense = expected_activity(0.25, default_plan(problem, Strategy::row_fused), problem);
  CHECK(*dense.pushed == 1.0);
  CHECK(*dense.repaired == 0.0);
  CHECK(*dense.active_union == 1.0 - 0.75 * 0.75);
  CHECK(*expected_activity(0.25, default_plan(problem, Strategy::unfused, true), problem).pushed == 1.0 - 0.75 * 0.75);
  const Plan streams = default_sign_split_plan(problem, Variant::streams, Repair::selective, true);
  CHECK(*expected_activity(0.25, streams, problem).pushed == 1.0);
  CHECK(*expected_activity(0.25, streams, problem).repaired == 1.0);
  const Plan full = default_sign_split_plan(problem, Variant::interim, Repair::full);
  CHECK(*expected_activity(0.25, full, problem).repaired == 1.0);
  CHECK(*expected_activity(0.25, full, problem).redone == 0.0);
  const Plan redo = default_sign_split_plan(problem, Variant::interim, Repair::redo);
  CHECK(*expected_activity(0.25, redo, problem).redone == *expected_activity(0.25, redo, problem).repaired);
  for (const double end : {0.0, 1.0}) {
    const Activity extreme = expected_activity(end, redo, problem);
    for (const double share : {*extreme.pushed, *extreme.repaired, *extreme.redone, *extreme.rechecked, *extreme.active_union}) {
      CHECK(share >= 0.0);
      CHECK(share <= 1.0);
    }
  }
}

TEST_CASE("reports of activity stand in for the model where they know, and nowhere else") {
  // Two layers, the second with three times as many pairs.
  std::vector<ActivityReport> reports(2);
  reports[0].units = 100;
  reports[1].units = 300;
  reports[0].tokens = reports[1].tokens = 10;
  reports[0].active = 0.5;
  reports[1].active = 0.1;
  reports[0].planes = {{.bits = 8, .group = 64, .executed = 0.4}, {.bits = 6, .group = 64, .executed = 0.1}};
  reports[1].planes = {{.bits = 8, .group = 64, .executed = 0.8}};
  reports[0].crossings = {{2, 0.25, 1.0}, {4, 0.5, 3.0}};
  const auto near = [](double value, double expected) { return std::abs(value - expected) <= 8 * 0x1p-53; };
  const auto of = [&](Plan plan, index_t batch) {
    const Problem problem{512, 2048, batch, DType::bf16, {}, false};
    return activity_from(reports, plan, problem);
  };
  const Problem problem{512, 2048, 1, DType::bf16, {}, false};
  Plan certified = default_plan(problem, Strategy::certified, true);
  CHECK(near(of(certified, 1).active, 0.2));
  CHECK(near(*of(certified, 1).refined, 1.0 - 0.7));
  CHECK(near(*of(certified, 2).refined, 1.0 - 0.7 * 0.7));
  certified.plane_bits = 6;  // of the first layer alone
  CHECK(near(*of(certified, 1).refined, 0.9));
  certified.plane_group = 128;
  CHECK_FALSE(of(certified, 1).refined.has_value());
  CHECK_FALSE(of(default_plan(problem, Strategy::row_fused, true), 1).refined.has_value());

  Plan interim = default_sign_split_plan(problem, Variant::interim, Repair::selective, true, 4);
  CHECK(near(*of(interim, 1).pushed, 0.75));
  CHECK(near(*of(interim, 2).pushed, 1.0 - 0.25 * 0.25));
  CHECK(near(*of(interim, 1).repaired, 0.5));
  CHECK_FALSE(of(interim, 1).redone.has_value());
  interim.repair = Repair::redo;
  CHECK(near(*of(interim, 1).redone, 0.5));
  Problem squares = problem;  // whose tiles do not add up: crossings were counted for relu
  squares.activation.kind = ActivationKind::relu2;
  CHECK_FALSE(activity_from(reports, interim, squares).repaired.has_value());
  interim.skip = false;  // every row is pushed, whatever was measured
  CHECK_FALSE(of(interim, 1).pushed.has_value());
  interim.repair = Repair::full;
  CHECK_FALSE(of(interim, 1).repaired.has_value());
  CHECK_FALSE(of(default_sign_split_plan(problem, Variant::interim, Repair::selective, true, 8), 1).pushed.has_value());
  CHECK_FALSE(of(default_sign_split_plan(problem, Variant::telescoping, Repair::none, true, 4), 1).pushed.has_value());
}

TEST_CASE("what the activation changes: squares are not additive, drelu's gate is open twice as often") {
  Problem problem{128, 64, 1, DType::f32, {}, false};
  const Plan split = default_sign_split_plan(problem, Variant::interim, Repair::selective, true, 2);
  const auto near = [](double value, double expected) { return std::abs(value - expected) <= 1e-12; };
  CHECK(near(*expected_activity(0.5, split, problem).repaired, 0.5));  // two fair tiles: all but both open and both closed
  problem.activation = {ActivationKind::relu2};
  CHECK(near(*expected_activity(0.5, split, problem).repaired, 0.75));
  problem = {128, 64, 1, DType::f32, {ActivationKind::drelu}, true};
  const Plan skipping = default_plan(problem, Strategy::row_fused, true);
  CHECK(*expected_activity(0.2, skipping, problem).up_rows == 0.4);
  const Plan certified = default_plan(problem, Strategy::certified);  // of drelu's gate, which is open twice as often
  Problem reglu = problem;
  reglu.activation = {};
  CHECK(*expected_activity(0.2, certified, problem).refined == *expected_activity(0.4, certified, reglu).refined);
  CHECK(*expected_activity(0.7, skipping, problem).up_rows == 1.0);
  problem.activation = {};
  CHECK(near(*expected_activity(0.2, skipping, problem).up_rows, 0.2));
}

TEST_CASE("full repair reads every row that was pushed again") {
  const Problem problem{256, 64, 1, DType::f32, {}, false};
  const Plan full = default_sign_split_plan(problem, Variant::interim, Repair::full, true, 4);
  const Activity activity = expected_activity(0.3, full, problem);
  CHECK(std::abs(*activity.down_again - 4.0 * *activity.pushed) <= 1e-12);
}

TEST_CASE("the last K tile has the share of D that is left") {
  const Problem problem{100, 64, 1, DType::f32, {}, false};  // tiles of 64 and of 36
  const Plan plan = default_sign_split_plan(problem, Variant::telescoping, Repair::none, true, 2);
  const double bias = normal_quantile(0.3);
  const double first = 1.0 - normal_cdf(-bias / 0.8), both = 1.0 - bivariate_normal_cdf(-bias / 0.8, -bias, 0.8);
  CHECK(std::abs(*expected_activity(0.3, plan, problem).pushed - (first + both) / 2.0) <= 1e-12);
  CHECK(std::abs(*expected_activity(0.3, plan, problem).down_again - first) <= 1e-12);  // whoever is pushed at all is read once: `both`
}

TEST_CASE("rows that are judged again are read as far as the bound of their rest leaves them") {
  const Problem problem{4096, 16384, 1, DType::bf16, {}, false};
  Plan halves = default_plan(problem, Strategy::certified), whole = halves;
  REQUIRE(halves.k_tile == 2048);
  whole.k_tile = 0;
  const Activity all = expected_activity(0.1, whole, problem), half = expected_activity(0.1, halves, problem);
  CHECK(*all.refined_read == *all.refined);
  CHECK(*half.refined == *all.refined);
  // The second half of a row is read where half of the bound leaves it.
  const double bias = normal_quantile(0.1), bound = normal_quantile(*all.refined) - bias;
  const double read = 0.5 * normal_cdf(bias + bound) + 0.5 * normal_cdf(bias + 0.5 * bound);
  CHECK(std::abs(*half.refined_read - read) <= 1e-12);

  const Statistics counted = count(halves, problem, {.active = 0.1});
  CHECK(counted.refined == count(whole, problem, {.active = 0.1}).refined);
  CHECK(counted.bytes_up == static_cast<std::uint64_t>(std::round(read * 16384 * 64)) * 128);
  // Where only the rows that are left are known, the expected share of them is read.
  const Statistics twice = count(halves, problem, {.active = 0.1, .refined = 2.0 * *half.refined});
  CHECK(std::abs(static_cast<double>(twice.bytes_up) / static_cast<double>(counted.bytes_up) - 2.0) <= 1e-5);
}

TEST_CASE("a plane's bound shrinks with its levels") {
  const Problem problem{4096, 64, 1, DType::bf16, {}, false};
  Plan plan = default_plan(problem, Strategy::certified, true);
  const auto bound = [&](index_t bits) {
    plan.plane_bits = bits;
    return normal_quantile(*expected_activity(0.01, plan, problem).refined) - normal_quantile(0.01);
  };
  CHECK(bound(8) > 0.0);
  CHECK(std::abs(bound(7) / bound(8) - 127.0 / 63.0) <= 1e-6);
}
