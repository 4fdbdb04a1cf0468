#include "tools/validation_run.hpp"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <system_error>
#include <utility>

#include "signsplit/atomic_file.hpp"
#include "signsplit/sim/calibrate.hpp"
#include "tools/cpu_options.hpp"
#include "tools/prediction_json.hpp"
#include "tools/quantity_text.hpp"
#include "tools/time_stamp.hpp"

namespace signsplit::tools {
namespace {

/// A measurement that loses more of its turns is not one of the machine that was predicted.
constexpr double kTooUnsteady = 0.5;

/// On another executor than the CPU predictions assume what the profile says.
bool on_cpu(const ValidationOptions& options) {
  return options.measure.executor == nullptr || options.measure.executor->device() == "cpu";
}

std::string isa_name(const ValidationOptions& options) {
  return on_cpu(options) && options.measure.isa ? std::string(cpu::to_string(*options.measure.isa)) : std::string();
}

sim::Scenario scenario_of(const sim::ValidationCase& request, const Plan& plan, const ValidationOptions& options) {
  const Executor* executor = options.measure.executor;
  return {.problem = request.problem,
          .plan = plan,
          .activity = sim::expected_activity(request.active, plan, request.problem),
          .residency = request.residency,
          .threads = on_cpu(options) ? options.measure.threads : 0,
          .isa = isa_name(options),
          .launch_mode = executor != nullptr ? executor->launch_mode() : sim::LaunchMode::graph};
}

/// A case of a shape that calibration ran would be no test.
Status check_held_out(std::span<const sim::ValidationCase> cases) {
  for (const sim::ValidationCase& request : cases) {
    for (const auto& [d_model, d_ff] : sim::calibration_shapes()) {
      if (request.problem.d_model == d_model && request.problem.d_ff == d_ff) {
        return invalid_argument(fmt::format("{}x{} is a shape of the calibration: it cannot validate", d_model, d_ff));
      }
    }
  }
  return {};
}

/// `ignore` computes something else, and is no alternative to decide about: it stays out.
ValidationGroup predict_group(const sim::ValidationCase& request, const sim::Machine& machine,
                              const ValidationOptions& options, std::vector<std::string>& problems) {
  ValidationGroup group{.name = group_name(request), .request = request, .plans = {}, .predictions = {}, .decision = {}, .measured = {}};
  for (const Plan& default_one : default_plans(request.problem, false)) {
    Executor* executor = options.measure.executor;
    const Plan plan = executor != nullptr ? executor->suited(default_one, request.problem) : default_one;
    const Result<sim::Prediction> prediction = sim::predict(scenario_of(request, plan, options), machine);
    if (!prediction) {
      problems.push_back(fmt::format("{}: {}: {}", group.name, label(plan), prediction.message()));
      continue;
    }
    group.plans.push_back(plan);
    group.predictions.push_back({label(plan), is_fused(plan), *prediction});
  }
  group.decision = sim::decide(group.predictions, machine);
  return group;
}

Json predictions_json(std::span<const ValidationGroup> groups, const sim::Machine& machine) {
  Json list = Json::array();
  for (const ValidationGroup& group : groups) {
    Json predictions = Json::array();
    for (std::size_t i = 0; i < group.plans.size(); ++i) {
      predictions.push_back(prediction_json(group.plans[i], group.predictions[i].prediction));
    }
    list.push_back({{"group", group.name},
                    {"problem", problem_json(group.request.problem)},
                    {"active", group.request.active},
                    {"residency", to_string(group.request.residency)},
                    {"cases", std::move(predictions)},
                    {"decision", decision_json(group.decision)}});
  }
  return {{"written", utc_now()}, {"machine", Json::parse(sim::to_json(machine))}, {"groups", std::move(list)}};
}

/// Joins predictions and measurements of a group. Schedules that could not run are told of, not counted.
void add_points(const ValidationGroup& group, std::span<const sim::LabelledPrediction> predictions, const sim::Machine& machine,
                const ValidationOptions& options, std::vector<sim::ValidationPoint>& points, TurnsOf turns = TurnsOf::steady) {
  for (std::size_t i = 0; i < group.plans.size(); ++i) {
    const CaseResult& measured = group.measured.cases[i];
    if (!measured.error.empty()) continue;
    points.push_back(validation_point(group.name, scenario_of(group.request, group.plans[i], options), predictions[i].prediction,
                                      machine, measured, turns));
  }
}

std::vector<sim::LabelledPrediction> predictions_on(const ValidationGroup& group, const sim::Machine& machine, const ValidationOptions& options) {
  std::vector<sim::LabelledPrediction> predictions;
  for (std::size_t i = 0; i < group.plans.size(); ++i) {
    const Result<sim::Prediction> prediction = sim::predict(scenario_of(group.request, group.plans[i], options), machine);
    predictions.push_back({group.predictions[i].label, group.predictions[i].fused, prediction ? *prediction : group.predictions[i].prediction});
  }
  return predictions;
}

/// The predictions on disk, to which those as of now are added case by case.
class PredictionsFile {
 public:
  PredictionsFile(std::filesystem::path file, Json json) : file_(std::move(file)), json_(std::move(json)) {}
  [[nodiscard]] Status write() const { return write_file(file_, json_text(json_)); }
  [[nodiscard]] Status add(std::size_t group, const ValidationGroup& now) {
    Json cases = Json::array();
    for (std::size_t i = 0; i < now.plans.size(); ++i) cases.push_back(prediction_json(now.plans[i], now.predictions_now[i].prediction));
    json_["groups"][group]["as_of_now"].push_back({{"written", utc_now()}, {"reading", reading_json(now.reading)}, {"cases", std::move(cases)}});
    return write();
  }
  /// A run that goes on must score the predictions that were written before the first measurement, not newer ones.
  [[nodiscard]] Status resume() {
    std::ifstream stream(file_, std::ios::binary);
    Json written = Json::parse(stream, nullptr, false);
    if (written.is_discarded()) return corrupt_file(file_.string() + ": the predictions of the measurements to go on with are not there");
    Json bare = written.value("groups", Json::array());
    for (Json& group : bare) group.erase("as_of_now");
    if (bare != json_.at("groups")) {
      return invalid_argument(file_.string() + ": holds other predictions than this model makes now; begin anew with another file");
    }
    json_ = std::move(written);
    return {};
  }

 private:
  std::filesystem::path file_;
  Json json_;
};

/// Measures a group, predicted as of now before its first timed call. Again, twice at most, while the machine is another one than was
/// predicted for most of the measurement.
Status measure_group(ValidationGroup& group, std::size_t index, const sim::Machine& machine, const ValidationOptions& options,
                     PredictionsFile& file, const MeasureProgress& progress) {
  constexpr int kMostRepeats = 2;
  std::vector<CaseRequest> requests;
  for (const Plan& plan : group.plans) requests.push_back({.plan = plan, .seldom = plan.strategy == Strategy::sign_split});
  for (const std::string& vendor : options.vendors) requests.push_back({std::nullopt, vendor});
  MeasureOptions measure_options = options.measure;
  measure_options.residency = group.request.residency;
  if (options.probe.read) {
    measure_options.before_timing = [&] {
      group.reading = options.probe.read();
      group.predictions_now = predictions_on(group, sim::as_of_now(machine, group.reading), options);
      return file.add(index, group);
    };
  }
  if (options.probe.still) {
    const bool with_memory = group.request.residency == sim::Residency::cold;
    measure_options.still = [&group, &options, with_memory] { return options.probe.still(group.reading, with_memory); };
  }
  measure_options.again = [&group](const MeasureResult& measured) {
    if (group.repeats == kMostRepeats || measured.turns_left_out <= kTooUnsteady) return false;
    ++group.repeats;
    return true;
  };
  Result<MeasureResult> measured = measure(group.request.problem, group.request.active, requests, measure_options, progress);
  if (!measured) return measured.status();
  if (measured->cases.size() != requests.size()) return invalid_argument("the measurement lost a case");
  group.measured = std::move(*measured);
  return {};
}

/// Measurements to go on with, or none yet; with the predictions written, or found to be the same.
Result<Measurements> begin(const ValidationOptions& options, const sim::Machine& machine, PredictionsFile& predictions) {
  std::error_code error;
  if (!options.keep.empty() && std::filesystem::exists(options.keep, error)) {
    Result<Measurements> kept = read_measurements(options.keep);
    if (!kept) return kept.status();
    if (kept->suite != options.suite) return invalid_argument(options.keep.string() + ": holds the suite " + kept->suite + ", not " + options.suite);
    if (const Status status = predictions.resume(); !status) return status;
    return kept;
  }
  if (const Status status = predictions.write(); !status) return status;
  return Measurements{options.suite, utc_now(), isa_name(options), options.measure.threads, machine, {}};
}

/// Takes what was measured before a break.
void take_over(ValidationGroup& group, const MeasuredGroup& known, const sim::Machine& machine, const ValidationOptions& options) {
  group.measured = known.measured;
  group.reading = known.reading;
  group.repeats = known.repeats;
  if (known.reading.threads > 0) group.predictions_now = predictions_on(group, sim::as_of_now(machine, known.reading), options);
}

void score(ValidationRun& run, const sim::Machine& machine, const ValidationOptions& options) {
  std::vector<sim::ValidationPoint> by_profile, same_run, all_turns;
  for (const ValidationGroup& group : run.groups) {
    if (group.measured.cases.size() < group.plans.size()) continue;
    for (std::size_t i = 0; i < group.plans.size(); ++i) {
      const std::string& error = group.measured.cases[i].error;
      if (!error.empty()) run.problems.push_back(fmt::format("{}: {}: {}", group.name, group.predictions[i].label, error));
    }
    add_points(group, group.predictions, machine, options, by_profile);
    const std::vector<sim::LabelledPrediction>& predictions = group.predictions_now.empty() ? group.predictions : group.predictions_now;
    add_points(group, predictions, machine, options, run.points);
    add_points(group, predictions, machine, options, all_turns, TurnsOf::all);
    const sim::Machine then = machine_for(machine, {group.request, group.measured, group.reading, group.repeats}, Knows::same_run);
    add_points(group, predictions_on(group, then, options), machine, options, same_run);
  }
  run.summary = sim::summarise(run.points, machine);
  run.profile_summary = sim::summarise(by_profile, machine);
  run.same_run_summary = sim::summarise(same_run, machine);
  run.all_turns_summary = sim::summarise(all_turns, machine);
}

Json score_json(const sim::DecisionScore& score) {
  return {{"decision_accuracy", score.decision_accuracy},
          {"abstain_rate", score.abstain_rate},
          {"abstain_where_measurable", score.abstain_where_measurable}};
}

Json score_json(const sim::DecisionScore& score, double mape) {
  Json json = score_json(score);
  json["mape"] = mape;
  return json;
}

}  // namespace

Steadiness steadiness_of(std::span<const MeasuredGroup> groups) {
  Steadiness all;
  for (const MeasuredGroup& group : groups) {
    all.repeated += group.repeats;
    all.mostly_unsteady += group.measured.turns_left_out > kTooUnsteady ? 1 : 0;
    all.turns_left_out += group.measured.turns_left_out / static_cast<double>(groups.size());
  }
  return all;
}

Result<ValidationRun> run_validation(std::span<const sim::ValidationCase> cases, const sim::Machine& machine,
                                     const std::filesystem::path& predictions_file, const ValidationOptions& options,
                                     const ValidationProgress& progress) {
  if (const Status status = check_held_out(cases); !status) return status;
  ValidationRun run;
  for (const sim::ValidationCase& request : cases) {
    ValidationGroup group = predict_group(request, machine, options, run.problems);
    if (!group.plans.empty()) run.groups.push_back(std::move(group));
  }
  if (run.groups.empty()) {
    return invalid_argument(run.problems.empty() ? "no case to validate" : "nothing to predict: " + run.problems.front());
  }
  PredictionsFile file(predictions_file, predictions_json(run.groups, machine));
  Result<Measurements> kept = begin(options, machine, file);
  if (!kept) return kept.status();

  const auto start = std::chrono::steady_clock::now();
  const auto total = static_cast<double>(run.groups.size());
  for (std::size_t i = 0; i < run.groups.size(); ++i) {
    ValidationGroup& group = run.groups[i];
    if (const MeasuredGroup* known = kept->find(group.request)) {
      take_over(group, *known, machine, options);
      continue;
    }
    const double spent = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (options.limit_s > 0 && spent > options.limit_s) {
      ++run.pending;
      continue;
    }
    const auto part = [&](double fraction, const std::string&) {
      if (progress) progress((static_cast<double>(i) + fraction) / total, group.name);
    };
    part(0, {});
    if (const Status status = measure_group(group, i, machine, options, file, part); !status) {
      run.problems.push_back(group.name + ": " + status.message());
      continue;
    }
    kept->groups.push_back({group.request, group.measured, group.reading, group.repeats});
    if (options.keep.empty()) continue;
    if (const Status status = write_measurements(options.keep, *kept); !status) return status;
  }
  if (run.pending > 0) return run;
  score(run, machine, options);
  run.steadiness = steadiness_of(kept->groups);
  if (run.points.empty()) {
    return invalid_argument("nothing could be measured" + (run.problems.empty() ? "" : ": " + run.problems.front()));
  }
  return run;
}

namespace {

Json steadiness_json(const Steadiness& s) {
  return {{"repeated_measurements", s.repeated}, {"mostly_unsteady", s.mostly_unsteady}, {"turns_left_out", s.turns_left_out}};
}

/// What stands beside the summary that counts.
Json short_summary_json(const sim::ValidationSummary& s) {
  return {{"mape", s.mape}, {"p95_ape", s.p95_ape}, {"bias", s.bias}, {"coverage_90", s.coverage_90}};
}

}  // namespace

Json summary_json(const sim::ValidationSummary& s) {
  Json strategies = Json::array();
  for (const sim::StrategyErrors& e : s.strategies) {
    strategies.push_back({{"label", e.label}, {"points", e.points}, {"mape", e.mape}, {"bias", e.bias}, {"worst", e.worst}});
  }
  Json pairs = score_json(s.pair_decisions);
  pairs["pairs"] = s.pairs;
  pairs["decided"] = s.pairs_decided;
  return {{"points", s.points},
          {"groups", s.groups},
          {"decided", s.decided},
          {"decision_accuracy", s.decision_accuracy},
          {"abstain_rate", s.abstain_rate},
          {"abstain_where_measurable", s.abstain_where_measurable},
          {"mape", s.mape},
          {"p95_ape", s.p95_ape},
          {"bias", s.bias},
          {"gap_median_abs_s", s.gap_median_abs_s},
          {"coverage_90", s.coverage_90},
          {"any_two_schedules", std::move(pairs)},
          {"regret_mean", s.regret_mean},
          {"regret_worst", s.regret_worst},
          {"strategies", std::move(strategies)},
          {"naive",
           {{"roofline", score_json(s.naive.roofline, s.naive.roofline_mape)},
            {"roofline_launch", score_json(s.naive.roofline_launch, s.naive.roofline_launch_mape)},
            {"always_fuse", score_json(s.naive.always_fuse)},
            {"never_fuse", score_json(s.naive.never_fuse)},
            {"roofline_any_two", score_json(s.naive.roofline_pairs)},
            {"roofline_launch_any_two", score_json(s.naive.roofline_launch_pairs)},
            {"regret_row_fused_skip", s.naive.regret_row_fused_skip}}}};
}

Json validation_json(const ValidationRun& run) {
  Json points = Json::array();
  for (const sim::ValidationPoint& p : run.points) {
    points.push_back({{"group", p.group},
                      {"label", p.label},
                      {"fused", p.fused},
                      {"predicted_s", p.predicted_s},
                      {"low_s", p.low_s},
                      {"high_s", p.high_s},
                      {"measured_s", p.measured_s},
                      {"measured_p10_s", p.measured_p10_s},
                      {"measured_p90_s", p.measured_p90_s},
                      {"paired_s", p.paired_s},
                      {"paired_ci90_s", p.paired_ci90_s},
                      {"roofline_s", p.roofline_s},
                      {"roofline_launch_s", p.roofline_launch_s}});
  }
  Json summary = summary_json(run.summary);
  summary["without_probe"] = summary_json(run.profile_summary);
  summary["same_run_bandwidth"] = short_summary_json(run.same_run_summary);
  summary["all_turns"] = short_summary_json(run.all_turns_summary);
  summary["steadiness"] = steadiness_json(run.steadiness);
  return {{"points", std::move(points)}, {"summary", std::move(summary)}};
}

}  // namespace signsplit::tools
