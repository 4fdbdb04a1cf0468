// Fits against a machine whose parameters are known, and a real calibration with made-up trials.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "fit.hpp"
#include "lookup.hpp"
#include "model_fields.hpp"
#include "probes.hpp"
#include "sample_machine.hpp"
#include "signsplit/sim/calibrate.hpp"

using namespace signsplit;
using namespace signsplit::sim;

namespace {

/// A machine with parameters away from what is assumed, by factors that a prior allows.
Machine known_machine() {
  Machine m = test::sample_machine();
  const double rates[] = {6e9, 5e9, 7e9, 4e9, 3e9, 2.5e9, 8e9, 8e9};
  for (std::size_t i = 0; i < 8; ++i) m.rates[i + 1].per_s.value = rates[i];
  for (const ModelField& field : kModelFields) {
    m.model[std::string(field.name)] = {field.assumed, std::string(field.base_unit), Kind::assumed, "by hand", 0.0};
  }
  m.model["overlap_loss"].value = 0.2;
  m.model["gather_gap_bytes"].value = 1500;
  m.model["push_overhead_s"].value = 6e-8;
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

/// The trials of weight types that the sample machine has rates of.
std::vector<Trial> pretend_all(const Machine& truth) {
  std::vector<Trial> trials;
  for (Trial& trial : trial_requests(2, true)) {
    const Problem& problem = trial.request.problem;
    if (problem.arithmetic == Arithmetic::w8a8 || (problem.dtype != DType::f32 && problem.dtype != DType::bf16)) continue;
    trial.results = pretend(trial.request, truth, "avx2");
    trials.push_back(std::move(trial));
  }
  return trials;
}

double total_squares(const Machine& machine, const std::vector<Trial>& trials) {
  double squares = 0;
  for (const Trial& trial : trials) {
    for (std::size_t plan = 0; plan < trial.results.size(); ++plan) {
      const double error = std::log(predicted_s(trial, plan, machine, "avx2") / trial.results[plan].median_s);
      squares += error * error;
    }
  }
  return squares;
}

}  // namespace

TEST_CASE("the fit predicts the trials far better than what was assumed, and reads back") {
  const Machine truth = known_machine();
  const std::vector<Trial> trials = pretend_all(truth);
  REQUIRE(trials.size() > 10);
  CHECK(total_squares(truth, trials) < 1e-20);  // the trials are what the truth predicts
  Machine start = test::sample_machine();
  std::erase_if(start.rates, [](const Rate& rate) { return rate.name != "fma_f32" && rate.name != "exact"; });
  start.model = truth.model;
  for (const char* name : {"overlap_loss", "gather_gap_bytes", "push_overhead_s"}) start.model[name].value = find_model_field(name)->assumed;
  Machine fitted = start;
  fit_all(fitted, "avx2", trials);
  // The least cost is at most that of the truth: none for the trials, for the priors Σ ((ln truth − ln assumed) / σ)². Rates are off by
  // at most a factor of e^1.2 and σ is at least 0.2: with fifty parameters below 50 · 36. A trial's σ is 0.05, and robust loss is at
  // least half of the squares while errors are below 2.8 σ: so this bounds the sum.
  CHECK(total_squares(fitted, trials) < 2.0 * 1800 * 0.05 * 0.05);
  CHECK(total_squares(fitted, trials) < 0.02 * total_squares(start, trials));
  CHECK(fitted.model.at("error").value == 0.12);  // the floors: next to nothing is left over
  CHECK(fitted.model.at("cache_error").value == 0.14);
  const auto again = parse_machine(to_json(fitted), "fitted");
  REQUIRE_MESSAGE(again.ok(), again.message());
  CHECK(*again == fitted);
}

TEST_CASE("a trial that went wrong does not carry a parameter away") {
  const Machine truth = known_machine();
  std::vector<Trial> trials = pretend_all(truth);
  Machine calm = truth, disturbed = truth;
  fit_all(calm, "avx2", trials);
  for (TrialResult& result : trials[2].results) result.median_s *= 1e3, result.p10_s *= 1e3, result.p90_s *= 1e3;
  fit_all(disturbed, "avx2", trials);
  for (const auto& correction : disturbed.model) {
    CAPTURE(correction.first);
    CHECK(std::isfinite(correction.second.value));
    CHECK(correction.second.value <= 1e3 * std::max(calm.model.at(correction.first).value, 1e-12));
  }
}

TEST_CASE("the error of a gap is what plans that differ in being fused alone are off beside each other, measuring apart") {
  const Machine truth = known_machine();
  std::vector<Trial> trials;
  int left[2] = {6, 6};  // warm and cold: a fit of all trials takes long
  for (Trial& trial : pretend_all(truth)) {
    if (left[trial.request.residency == Residency::cold]-- > 0) trials.push_back(std::move(trial));
  }
  const auto width = [&](const char* name, double off, double ci90, Residency residency = Residency::cold) {
    double sign = 1.0;
    for (Trial& trial : trials) {
      const bool disturbed = trial.request.residency == residency;
      for (std::size_t plan = 0; plan < trial.results.size(); ++plan) {
        TrialResult& result = trial.results[plan];
        const Plan& one = trial.request.plans[plan];
        const bool unfused = one.strategy == Strategy::unfused;
        result.paired_s = result.median_s * (unfused && disturbed ? 1.0 + sign * (one.skip ? -off : off) : 1.0);
        result.paired_ci90_s = ci90 * result.median_s;
      }
      sign = disturbed ? -sign : sign;
    }
    Machine fitted = truth;
    fit_all(fitted, "avx2", trials);
    return fitted.model.at(name).value;
  };
  constexpr double kFloor = 0.0025;
  CHECK(width("gap_error", 0.0, 0.0) == kFloor);
  // A tenth, half of the time more and half less: nothing fits. With errors of a tenth the width is 0.017.
  const double off = width("gap_error", 0.1, 0.0);
  CHECK(off > 0.01);
  CHECK(off < 0.025);
  CHECK(width("unlike_error", 0.2, 0.0) > 0.012);
  CHECK(width("unlike_error", 0.0, 0.0) == 0.012);
  CHECK(width("cache_gap_error", 0.1, 0.0) < 0.5 * off);  // that of the other residency
  CHECK(width("cache_gap_error", 0.1, 0.0, Residency::warm) > 0.008);
  CHECK(width("gap_error", 0.1, 0.3) == kFloor);  // what measuring leaves open is no error of the model
  for (Trial& trial : trials) {
    for (TrialResult& result : trial.results) result.paired_s = 0.0;
  }
  Machine fitted = truth;
  fit_all(fitted, "avx2", trials);
  CHECK(fitted.model.at("gap_error").value == kFloor);
}

TEST_CASE("what medians hide, plans beside each other tell: the cost of changing the matrix") {
  Machine truth = known_machine();
  truth.model["switch_s"].value = 1e-6;  // four times what is assumed
  std::vector<Trial> trials = pretend_all(truth);
  for (Trial& trial : trials) {
    for (TrialResult& result : trial.results) {
      result.paired_s = result.median_s, result.paired_ci90_s = 1e-3 * result.median_s;
      result.p10_s = 0.3 * result.median_s, result.p90_s = 3.0 * result.median_s;  // of which little is known
    }
  }
  Machine fitted = known_machine();
  fit_all(fitted, "avx2", trials);
  CHECK(fitted.model.at("switch_s").value > 7e-7);
  for (Trial& trial : trials) {
    for (TrialResult& result : trial.results) result.paired_s = 0.0;
  }
  fit_all(fitted, "avx2", trials);
  CHECK(fitted.model.at("switch_s").value < 7e-7);
}

TEST_CASE("a trial is judged on the machine as it was") {
  const Machine truth = known_machine();
  Trial trial = trial_requests(2, true).back();
  for (Trial& one : trial_requests(2, true)) {
    if (one.request.residency == Residency::cold && one.request.problem.dtype == DType::f32) trial = one;
  }
  trial.reading.threads = 2;
  trial.reading.read_bandwidth = {{1e8, 2, 5e9, 0}};  // a quarter of what the profile says
  trial.results = pretend(trial.request, as_of_now(truth, trial.reading), "avx2");
  for (std::size_t plan = 0; plan < trial.results.size(); ++plan) {
    CHECK(std::abs(predicted_s(trial, plan, truth, "avx2") / trial.results[plan].median_s - 1.0) < 1e-12);
  }
  trial.reading = {};
  CHECK(predicted_s(trial, 0, truth, "avx2") < 0.5 * trial.results[0].median_s);
}

TEST_CASE("latency and conversion: every level, every instruction set, numbers that are some") {
  const auto chase = ChaseProbe::make(1 << 20);
  REQUIRE(chase.ok());
  for (const int chains : {1, 2, 4, 8, 16}) {
    for (const double bytes : {128.0 * chains, 65536.0, 1e9}) CHECK(chase->latency(bytes, chains, 3).median > 0.0);
  }
  for (const std::string& isa : probe_isas()) {
    for (const char* name : {"convert_bf16", "convert_f16", "convert_int8", "dot_int8"}) CHECK(probe_conversion(isa, name, 3).median > 0.0);
  }
  CHECK_FALSE(ReadProbe::make(0, 1).ok());
  CHECK_FALSE(ReadProbe::make(4096, 0).ok());
  const auto read = ReadProbe::make(1 << 20, 1);
  REQUIRE(read.ok());
  const auto samples = read->sample({100, 4096, 1e9}, 2);  // too small a set is left out, too large a one cut
  REQUIRE(samples.size() == 2);
  CHECK(samples[0].working_set_bytes == 4096);
  CHECK(samples[1].working_set_bytes == 1 << 20);
  CHECK(samples[1].bytes_per_s.median > 0.0);
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
  options.threads = 1;  // beside other tests two threads would wait for each other's processor at every barrier
  options.progress = [&](int index, int of, const std::string& what) {
    CHECK(index == calls++);
    CHECK_FALSE(what.empty());
    total = of;
  };
  const Machine truth = detect_host();
  int further = 0;
  options.trial = [&](const TrialRequest& request) -> Result<std::vector<TrialResult>> {
    std::vector<TrialResult> results = pretend(request, truth, truth.isa);
    for (TrialResult& result : results) result.p90_s *= 2.0;  // a neighbour
    if (request.residency == Residency::warm) return results;  // who calibrates need not ask
    int times = 1;
    while (request.again(results)) ++times;
    CHECK(times <= 3);
    further += times - 1;
    return results;
  };
  const auto machine = calibrate_host(options);
  REQUIRE_MESSAGE(machine.ok(), machine.message());
  CHECK(calls == total);
  CHECK(total <= 15);
  // Of trials of 0.17 s and more, half of 0.35, there are 23 repetitions in 4 s at most: not two of each.
  CHECK(further > 2);
  CHECK(further <= 23);
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
