// Decisions, and the plan that is predicted to be the fastest.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "lookup.hpp"
#include "sample_machine.hpp"
#include "signsplit/sim/predict.hpp"

using namespace signsplit;
using namespace signsplit::sim;

namespace {

LabelledPrediction labelled(const char* label, bool fused, double stream, double launch) {
  Prediction prediction;
  prediction.terms.stream = stream;
  prediction.terms.launch = launch;
  prediction.time_s = prediction.terms.total();
  return {label, fused, prediction};
}

Machine with_gap_error(double share) {
  Machine machine = test::sample_machine();
  machine.model["gap_error"].value = share;
  machine.model["cache_gap_error"].value = 2 * share;
  machine.model["unlike_error"].value = 0.03;
  return machine;
}

}  // namespace

TEST_CASE("the best of each kind are compared") {
  const std::vector<LabelledPrediction> cases{labelled("slow fused", true, 3e-3, 0), labelled("unfused", false, 2e-3, 0),
                                              labelled("fused", true, 1e-3, 0), labelled("slow unfused", false, 4e-3, 0)};
  const auto decision = decide(cases, with_gap_error(0.01));
  REQUIRE(decision.has_value());
  CHECK(decision->winner == "fused");
  CHECK(decision->loser == "unfused");
  CHECK(decision->gap_s == 2e-3 - 1e-3);
  CHECK(decision->verdict == Verdict::fuse);
}

TEST_CASE("keep unfused, and gaps inside the uncertainty") {
  const std::vector<LabelledPrediction> cases{labelled("fused", true, 1.05e-3, 0), labelled("unfused", false, 1e-3, 0)};
  CHECK(decide(cases, with_gap_error(0.01))->verdict == Verdict::keep_unfused);
  const Terms known = term_uncertainty(test::sample_machine());
  const auto close = decide(cases, with_gap_error(0.05));
  CHECK(close->verdict == Verdict::too_close);
  CHECK(close->winner == "unfused");
  // What the stream is known to, and gap_error, which is more than 3 %, is all that the equations leave out.
  CHECK(test::within(close->uncertainty_s, std::hypot(known.stream * 0.05e-3, 0.05 * 1.05e-3), 1e-12));
  // 1 % of the slower time where the terms are the same, 3 % where they differ by a fifth; here they differ by 1 / 21.
  const double left_out = 0.01 + 0.02 * 5.0 / 21.0;
  CHECK(test::within(decide(cases, with_gap_error(0.01))->uncertainty_s, std::hypot(known.stream * 0.05e-3, left_out * 1.05e-3), 1e-12));
  std::vector<LabelledPrediction> cached = cases;
  for (LabelledPrediction& entry : cached) entry.prediction.memory = 0.25;  // then three quarters of cache_gap_error
  const double left_cached = 0.0175 + 0.0125 * 5.0 / 21.0;
  CHECK(test::within(decide(cached, with_gap_error(0.01))->uncertainty_s, std::hypot(known.stream * 0.05e-3, left_cached * 1.05e-3), 1e-12));
  const std::vector<LabelledPrediction> apart{labelled("fused", true, 1.5e-3, 0), labelled("unfused", false, 1e-3, 0)};
  CHECK(test::within(decide(apart, with_gap_error(0.01))->uncertainty_s, std::hypot(known.stream * 0.5e-3, 0.03 * 1.5e-3), 1e-12));
  const std::vector<LabelledPrediction> equal{labelled("fused", true, 1e-3, 0), labelled("unfused", false, 1e-3, 0)};
  CHECK(decide(equal, with_gap_error(0.0))->verdict == Verdict::too_close);
}

TEST_CASE("what both share does not blur the decision") {
  // The stream is known to 5 % only, 50 µs of it; the launches differ by 10 µs, known to 5 %.
  const std::vector<LabelledPrediction> cases{labelled("fused", true, 1e-3, 10e-6), labelled("unfused", false, 1e-3, 20e-6)};
  const auto decision = decide(cases, with_gap_error(0.0));
  CHECK(decision->verdict == Verdict::fuse);
  const Terms known = term_uncertainty(test::sample_machine());
  CHECK(test::within(decision->uncertainty_s, std::hypot(known.launch * 10e-6, 0.03 * 10e-6 / 0.2), 1e-9));
  const std::vector<LabelledPrediction> streams{labelled("fused", true, 1e-3, 10e-6), labelled("unfused", false, 1.01e-3, 10e-6)};
  CHECK(decide(streams, with_gap_error(0.0))->uncertainty_s > 0.0);
}

TEST_CASE("a barrier between two products is known as well as what is fitted of it") {
  std::vector<LabelledPrediction> cases{labelled("fused", true, 1e-3, 10e-6), labelled("unfused", false, 1e-3, 10e-6)};
  cases[1].prediction.terms.barrier = 4e-6;
  cases[1].prediction.time_s = cases[1].prediction.terms.total();
  Machine machine = with_gap_error(0.0);
  machine.model["barrier_wait_s"] = {1e-7, "s", Kind::assumed, "by hand", 0.0};
  CHECK(test::within(decide(cases, machine)->uncertainty_s, std::hypot(0.4 * 4e-6, 0.03 * 4e-6 / 0.2), 1e-9));  // assumed
  machine.model["barrier_wait_s"].kind = Kind::fitted;
  CHECK(test::within(decide(cases, machine)->uncertainty_s, std::hypot(0.1 * 4e-6, 0.03 * 4e-6 / 0.2), 1e-9));
  CHECK(decide(cases, machine)->verdict == Verdict::fuse);
}

TEST_CASE("of equals the first is named") {
  const std::vector<LabelledPrediction> cases{labelled("a", true, 1e-3, 0), labelled("b", true, 1e-3, 0), labelled("c", false, 2e-3, 0),
                                              labelled("d", false, 2e-3, 0)};
  CHECK(decide(cases, with_gap_error(0.0))->winner == "a");
  CHECK(decide(cases, with_gap_error(0.0))->loser == "c");
}

TEST_CASE("without an alternative there is nothing to decide") {
  CHECK_FALSE(decide({}, test::sample_machine()).has_value());
  const std::vector<LabelledPrediction> only_fused{labelled("a", true, 1, 0), labelled("b", true, 2, 0)};
  CHECK_FALSE(decide(only_fused, test::sample_machine()).has_value());
  const std::vector<LabelledPrediction> only_unfused{labelled("a", false, 1, 0)};
  CHECK_FALSE(decide(only_unfused, test::sample_machine()).has_value());
}

TEST_CASE("verdicts have the names people read") {
  CHECK(to_string(Verdict::fuse) == "fuse");
  CHECK(to_string(Verdict::keep_unfused) == "keep unfused");
  CHECK(to_string(Verdict::too_close) == "too close to call");
}
