// Validation statistics on points worked out by hand, each field shown to notice a change.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "sample_machine.hpp"
#include "signsplit/models.hpp"
#include "signsplit/sim/calibrate.hpp"
#include "signsplit/sim/validation.hpp"

using namespace signsplit;
using namespace signsplit::sim;

namespace {

ValidationPoint point(const char* group, bool fused, double predicted, double measured, double roofline) {
  ValidationPoint p;
  p.group = group;
  p.label = fused ? "row_fused" : "unfused";
  p.fused = fused;
  p.predicted_s = predicted;
  p.low_s = predicted * 0.9;
  p.high_s = predicted * 1.1;
  p.roofline_s = roofline;
  p.roofline_launch_s = roofline + (fused ? 1.0 : 2.0);
  p.measured_s = measured;
  p.measured_p10_s = measured - 1.0;
  p.measured_p90_s = measured + 1.0;
  p.terms.stream = predicted;
  return p;
}

/// Four groups, times in seconds for readable numbers:
///   a  fused wins by 20, predicted to win by 20                          right
///   b  unfused wins by 10, predicted: fused by 10                        wrong
///   c  measured 0.5 apart, spread √2                                     not decidable; predicted to win
///   d  fused wins by 20, predicted equal                                 abstained
///   e  one kind only                                                     no group
std::vector<ValidationPoint> points() {
  return {point("a", true, 80, 80, 50),   point("a", false, 100, 100, 50),  point("b", true, 90, 100, 60),
          point("b", false, 100, 90, 50), point("c", true, 90, 100, 50),    point("c", false, 100, 100.5, 50),
          point("d", true, 100, 80, 50),  point("d", false, 100, 100, 50),  point("e", true, 50, 100, 50)};
}

/// Bandwidth known to 1 %, all else exactly.
Machine machine() {
  Machine m = test::sample_machine();
  for (BandwidthPoint& p : m.read_bandwidth) p.ci90 = 0.01 * p.bytes_per_s;
  return m;
}

void check_close(double value, double expected) { CHECK(std::abs(value - expected) <= 1e-13 * std::max(1.0, std::abs(expected))); }

}  // namespace

TEST_CASE("summary of hand-worked points") {
  const ValidationSummary s = summarise(points(), machine());
  CHECK(s.points == 9);
  CHECK(s.groups == 4);
  CHECK(s.decided == 2);
  CHECK(s.decision_accuracy == 0.5);
  CHECK(s.abstain_rate == 0.25);
  CHECK(s.abstain_where_measurable == 1.0 / 3);  // d of a, b and d
  check_close(s.mape, (0.1 + 10.0 / 90 + 0.1 + 0.5 / 100.5 + 0.25 + 0.5) / 9);
  CHECK(s.p95_ape == 0.5);
  check_close(s.gap_median_abs_s, (9.5 + 20.0) / 2);  // 0, 20, 9.5, 20
  CHECK(s.coverage_90 == 5.0 / 9);  // a, a, b: 90..110 holds neither 100 of [81, 99] nor 90 of [90, 110] less rounding
}

TEST_CASE("what was measured beside each other decides, within its interval") {
  auto some = points();
  for (std::size_t i = 4; i < 6; ++i) some[i].paired_s = some[i].measured_s, some[i].paired_ci90_s = 0.3;
  CHECK(summarise(some, machine()).decided == 3);  // c, 0.5 apart, uncertain by 0.3·√2
  some[4].paired_ci90_s = 0.5;
  CHECK(summarise(some, machine()).decided == 2);
  some[4].paired_ci90_s = 0.3;
  some[4].paired_s = 101;  // fused is the slower one: the prediction is wrong
  const ValidationSummary s = summarise(some, machine());
  CHECK(s.decided == 3);
  check_close(s.decision_accuracy, 1.0 / 3);
  some[5].paired_s = 0;  // of one alone nothing is known
  CHECK(summarise(some, machine()).decided == 2);
}

TEST_CASE("naive predictors") {
  const auto naive = summarise(points(), machine()).naive;
  // Decidable: a (fuse), b (keep), d (fuse). roofline ties on a, c and d, and says keep on b.
  CHECK(naive.roofline.decision_accuracy == 1.0);
  CHECK(naive.roofline.abstain_rate == 0.75);
  CHECK(naive.roofline.abstain_where_measurable == 2.0 / 3);
  // With the launch it says fuse on a, c, d and keep on b.
  CHECK(naive.roofline_launch.decision_accuracy == 1.0);
  CHECK(naive.roofline_launch.abstain_rate == 0.0);
  check_close(naive.always_fuse.decision_accuracy, 2.0 / 3);
  check_close(naive.never_fuse.decision_accuracy, 1.0 / 3);
  CHECK(naive.always_fuse.abstain_rate == 0.0);
  CHECK(naive.never_fuse.abstain_rate == 0.0);
  check_close(naive.roofline_mape, (30.0 / 80 + 0.5 + 0.4 + 40.0 / 90 + 0.5 + 50.5 / 100.5 + 30.0 / 80 + 0.5 + 0.5) / 9);
}

TEST_CASE("the summary notices every kind of change") {
  const ValidationSummary before = summarise(points(), machine());
  auto changed = points();
  changed[2].predicted_s = changed[2].terms.stream = 120;  // b is now predicted as it was measured
  ValidationSummary after = summarise(changed, machine());
  CHECK(after.decision_accuracy == 1.0);
  CHECK(after.mape != before.mape);
  changed = points();
  changed[0].low_s = 81;
  CHECK(summarise(changed, machine()).coverage_90 == 4.0 / 9);
  changed = points();
  changed[4].measured_s = 50;  // c becomes decidable
  CHECK(summarise(changed, machine()).decided == 3);
  changed = points();
  changed[0].measured_p90_s = 1000;  // a drowns in noise
  CHECK(summarise(changed, machine()).decided == 1);
  changed = points();
  changed[8].group = changed[4].group;
  CHECK(summarise(changed, machine()).gap_median_abs_s != before.gap_median_abs_s);
}

TEST_CASE("points without a prediction or a measurement are left out") {
  auto some = points();
  some[1].measured_s = 0;
  some[3].predicted_s = std::nan("");
  const ValidationSummary s = summarise(some, machine());
  CHECK(s.points == 7);
  CHECK(s.groups == 2);
  const ValidationSummary none = summarise({}, machine());
  CHECK(none.points == 0);
  CHECK(none.mape == 0.0);
  CHECK(none.decision_accuracy == 0.0);
}

TEST_CASE("without terms the two intervals are taken as independent") {
  auto two = std::vector<ValidationPoint>{point("a", true, 80, 80, 50), point("a", false, 100, 100, 50)};
  CHECK(summarise(two, machine()).abstain_rate == 0.0);
  for (ValidationPoint& p : two) {
    p.terms = {};
    p.low_s = p.predicted_s - 15;
    p.high_s = p.predicted_s + 15;
  }
  CHECK(summarise(two, machine()).abstain_rate == 1.0);  // 20 apart, uncertain by 15·√2
}

TEST_CASE("any two schedules, the planner's regret, and every schedule's errors") {
  // Fastest first as measured: b, a, c; as predicted: a, b, c. c is no candidate. a and b: wrong; a and c, b and c: right.
  std::vector<ValidationPoint> three{point("g", true, 70, 90, 50), point("g", false, 80, 80, 50), point("g", true, 120, 100, 50)};
  three[2].label = "sign_split";
  three[0].candidate = three[1].candidate = true;
  const ValidationSummary s = summarise(three, machine());
  CHECK(s.pairs == 3);
  CHECK(s.pairs_decided == 3);
  check_close(s.pair_decisions.decision_accuracy, 2.0 / 3);
  CHECK(s.pair_decisions.abstain_rate == 0.0);
  CHECK(s.naive.roofline_pairs.abstain_rate == 1.0);
  check_close(s.regret_mean, 90.0 / 80 - 1);
  check_close(s.regret_worst, 90.0 / 80 - 1);
  REQUIRE(s.strategies.size() == 3);
  CHECK(s.strategies[0].label == "row_fused");
  check_close(s.strategies[0].worst, 70.0 / 90 - 1);
  check_close(s.strategies[2].bias, 0.2);
  check_close(s.bias, (70.0 / 90 - 1 + 0.0 + 0.2) / 3);
  three[2].candidate = true;
  three[2].predicted_s = three[2].terms.stream = 10;
  check_close(summarise(three, machine()).regret_mean, 100.0 / 80 - 1);
  three[0].measured_p90_s = 1000;  // no pair with the first can be told apart
  CHECK(summarise(three, machine()).pairs_decided == 1);
}

TEST_CASE("the 95th percentile of twenty is the nineteenth, and a schedule's worst error may come first") {
  std::vector<ValidationPoint> twenty;
  for (int i = 20; i >= 1; --i) twenty.push_back(point("g", true, 100.0 + i, 100, 50));
  const ValidationSummary s = summarise(twenty, machine());
  check_close(s.p95_ape, 0.19);
  REQUIRE(s.strategies.size() == 1);
  check_close(s.strategies[0].worst, 0.2);
}

TEST_CASE("suites: valid, distinct, within memory, never a calibration shape, tuning and reporting apart") {
  std::set<std::pair<index_t, index_t>> reported, tuned;
  for (const char* name : {"quick", "full", "development"}) {
    const auto suite = validation_suite(name);
    REQUIRE(suite.ok());
    std::set<std::string> seen;
    for (const ValidationCase& entry : *suite) {
      const Problem& problem = entry.problem;
      CAPTURE(describe(problem));
      CHECK(validate(problem).ok());
      CHECK(weight_bytes(problem) < index_t{300} << 20);
      CHECK(seen.insert(describe(problem) + std::to_string(entry.active) + (entry.residency == Residency::cold ? "c" : "w")).second);
      for (const auto& [d, f] : calibration_shapes()) CHECK_FALSE((problem.d_model == d && problem.d_ff == f));
      (std::string(name) == "development" ? tuned : reported).insert({problem.d_model, problem.d_ff});
    }
  }
  for (const auto& shape : tuned) CHECK(reported.count(shape) == 0);
  CHECK(validation_suite("half").status().code() == StatusCode::not_found);
  CHECK(validation_suite("half").message().find("quick") != std::string::npos);
}

TEST_CASE("the full suite is as wide as it says") {
  const std::vector<ValidationCase> suite = *validation_suite("full");
  std::set<DType> dtypes;
  std::set<index_t> batches;
  std::size_t gated = 0, cold = 0, points = 0;
  double least = 1, most = 0;
  for (const ValidationCase& entry : suite) {
    dtypes.insert(entry.problem.dtype);
    batches.insert(entry.problem.batch);
    gated += entry.problem.gated;
    cold += entry.residency == Residency::cold;
    least = std::min(least, entry.active);
    most = std::max(most, entry.active);
    points += default_plans(entry.problem, false).size();
  }
  CHECK(points >= 200);
  CHECK(dtypes == std::set<DType>{DType::f32, DType::bf16, DType::int8});
  CHECK(*batches.begin() == 1);
  CHECK(*batches.rbegin() == 8);
  CHECK(gated >= 5);
  CHECK(cold >= 10);
  CHECK(cold + 10 <= suite.size());
  CHECK(least == 0.01);
  CHECK(most == 1.0);
}

TEST_CASE("calibration runs no published shape") {
  for (const auto& [d, f] : calibration_shapes()) {
    for (const Model& model : models()) CHECK_FALSE((model.d_model == d && model.d_ff == f));
  }
}
