// Fits against a machine whose parameters are known, and a real calibration with made-up trials.
#include <doctest/doctest.h>

#include <cmath>

#include "fit.hpp"
#include "lookup.hpp"
#include "probes.hpp"
#include "sample_machine.hpp"
#include "signsplit/sim/calibrate.hpp"

using namespace signsplit;
using namespace signsplit::sim;

namespace {

/// A machine with every parameter away from what is assumed.
Machine known_machine() {
  Machine m = test::sample_machine();
  const double rates[] = {6e9, 5e9, 7e9, 4e9, 3e9, 2.5e9, 8e9, 8e9};
  for (std::size_t i = 0; i < 8; ++i) m.rates[i + 1].per_s.value = rates[i];
  m.model["stream_efficiency"].value = 0.8;
  m.model["cache_efficiency"].value = 0.9;
  m.model["gather_gap_bytes"].value = 900;
  m.model["piece_overhead_s"].value = 2e-8;
  return m;
}

/// A trial that takes just what `truth` predicts.
std::vector<TrialResult> pretend(const TrialRequest& request, const Machine& truth, const std::string& isa) {
  std::vector<TrialResult> results;
  for (const Plan& plan : request.plans) {
    const Activity activity = expected_activity(request.active, plan, request.problem);
    const auto p = predict({request.problem, plan, activity, request.residency, request.threads, isa}, truth);
    REQUIRE_MESSAGE(p.ok(), p.message());
    results.push_back({p->time_s, 0.99 * p->time_s, 1.01 * p->time_s, count(plan, request.problem, activity)});
  }
  return results;
}

std::vector<Trial> pretend_all(const Machine& truth) {
  std::vector<Trial> trials = trial_requests(2, true);
  for (Trial& trial : trials) trial.results = pretend(trial.request, truth, "avx2");
  return trials;
}

}  // namespace

TEST_CASE("one parameter: the fit predicts what was measured") {
  const Machine truth = known_machine();
  const std::vector<Trial> trials = pretend_all(truth);
  Machine fitted = truth;
  set_rate(fitted, "avx2", "up_f32", {1e9, "elem/s", Kind::assumed, "", 0});
  fit_rate(fitted, "avx2", "up_f32", {trials[0], 0});
  // Sixty halvings of an interval of less than twelve in the logarithm end below the rounding of the prediction.
  CHECK(std::abs(predicted_s({trials[0], 0}, fitted, "avx2") / trials[0].results[0].median_s - 1.0) < 1e-12);
  CHECK(std::abs(kernel_rate(fitted, "avx2", "up_f32")->value / 6e9 - 1.0) < 1e-9);
  CHECK(kernel_rate(fitted, "avx2", "up_f32")->kind == Kind::fitted);
  CHECK(kernel_rate(fitted, "avx2", "up_f32")->ci90 > 0.0);
}

TEST_CASE("all trials: the fit reproduces them") {
  const Machine truth = known_machine();
  const std::vector<Trial> trials = pretend_all(truth);
  CHECK(trials.size() + 4 <= 15);
  Machine fitted = test::sample_machine();
  fit_all(fitted, "avx2", trials);
  CHECK(fitted.model.at("error").value == 0.15);     // the floor: nothing is left over that the equations cannot say
  CHECK(fitted.model.at("gap_error").value == 0.02);
  const auto again = parse_machine(to_json(fitted), "fitted");
  REQUIRE_MESSAGE(again.ok(), again.message());
  CHECK(*again == fitted);
}

TEST_CASE("a measurement beyond what the model can say ends at a bound, not in nonsense") {
  const Machine truth = known_machine();
  std::vector<Trial> trials = pretend_all(truth);
  Machine fitted = truth;
  trials[0].results[0].median_s *= 1e-3;
  fit_rate(fitted, "avx2", "up_f32", {trials[0], 0});
  CHECK(kernel_rate(fitted, "avx2", "up_f32")->value <= 16e9);
  trials[0].results[0].median_s *= 1e9;
  fit_rate(fitted, "avx2", "up_f32", {trials[0], 0});
  CHECK(kernel_rate(fitted, "avx2", "up_f32")->value >= 1e7);
}

TEST_CASE("medians and their spread") {
  const Sampled s = summarise_samples({5, 1, 3, 2, 4});
  CHECK(s.median == 3.0);
  CHECK(s.cv == 2.0 / 1.349 / 3.0);
  CHECK(s.ci90 > 0.0);
  CHECK(summarise_samples({7}).median == 7.0);
  CHECK(summarise_samples({7}).ci90 == 0.0);
  CHECK(summarise_samples({1, 1, 1, 1, 1000}).median == 1.0);  // one bad sample does not count
}

TEST_CASE("calibration of this machine gives a profile that can be read back and used") {
  int calls = 0, total = 0;
  CalibrateOptions options;
  options.quick = true;
  options.progress = [&](int index, int of, const std::string& what) {
    CHECK(index == calls++);
    CHECK_FALSE(what.empty());
    total = of;
  };
  const Machine truth = detect_host();
  options.trial = [&](const TrialRequest& request) -> Result<std::vector<TrialResult>> { return pretend(request, truth, truth.isa); };
  const auto machine = calibrate_host(options);
  REQUIRE_MESSAGE(machine.ok(), machine.message());
  CHECK(calls == total);
  CHECK(total <= 15);
  CHECK(machine->read_bandwidth_kind == Kind::measured);
  const auto again = parse_machine(to_json(*machine), "host.json");
  REQUIRE_MESSAGE(again.ok(), again.message());
  CHECK(*again == *machine);
  const Problem problem{768, 3072, 1, DType::bf16, {}, false};
  CHECK(predict({problem, default_plan(problem, Strategy::row_fused), {}, Residency::cold, 0, {}}, *machine).ok());
}

TEST_CASE("calibration refuses what it cannot do, and passes on a trial's failure") {
  CalibrateOptions options;
  options.isa = "sse9";
  CHECK(calibrate_host(options).status().code() == StatusCode::unsupported);
  options.isa.clear();
  options.threads = -1;
  CHECK(calibrate_host(options).status().code() == StatusCode::invalid_argument);
}
