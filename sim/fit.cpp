#include "fit.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

#include "lookup.hpp"
#include "model_fields.hpp"

namespace signsplit::sim {
namespace {

/// No interval is narrower: what the model is known to leave out on shapes that were never calibrated.
constexpr double kErrorFloor = 0.15;

using Setter = std::function<void(Machine&, double)>;

/// The value in [low, high] at which the prediction is `target_s`. The prediction is monotone in the value; where the
/// target lies beyond an end, that end. Bisects the logarithm when low > 0.
double solve(Machine machine, const std::string& isa, const TrialCase& one, double target_s, double low, double high,
             const Setter& set) {
  const auto excess = [&](double value) {
    set(machine, value);
    return predicted_s(one, machine, isa) - target_s;
  };
  const bool rising = excess(high) > excess(low);
  for (int step = 0; step < 60; ++step) {
    const double middle = low > 0.0 ? std::sqrt(low * high) : 0.5 * (low + high);
    ((excess(middle) > 0.0) == rising ? high : low) = middle;
  }
  return low > 0.0 ? std::sqrt(low * high) : 0.5 * (low + high);
}

/// Half width of the 90 % interval of a trial's median. p90 − p10 is 2.56 σ; a trial has at least five samples.
double median_ci90_s(const TrialResult& result) {
  return 1.645 * 1.253 * (result.p90_s - result.p10_s) / 2.563 / std::sqrt(5.0);
}

Quantity solved(const Machine& machine, const std::string& isa, const TrialCase& one, double low, double high, const Setter& set,
                const char* unit) {
  const double target = one.result().median_s, spread = median_ci90_s(one.result());
  const auto at = [&](double seconds) { return solve(machine, isa, one, seconds, low, high, set); };
  const std::string source = "signsplit calibrate: " + one.trial.what + ", " + label(one.trial.request.plans[one.plan]);
  Quantity quantity{at(target), unit, Kind::fitted, source, 0.0};
  quantity.ci90 = 0.5 * std::abs(at(target + spread) - at(std::max(target - spread, 0.1 * target)));
  return quantity;
}

/// Positions in trial_requests().
enum TrialIndex : std::size_t { kF32, kBf16, kInt8, kShortRows, kBatch, kBatch8, kCache, kSmall, kDram, kDramShort, kDramBatch };
/// Positions of the plans of a trial.
enum PlanIndex : std::size_t { kSkip, kDense, kUnfused, kStreams, kInterim, kCertified };

// Layers that fit in a 1 MiB second-level cache in f32, one with short rows, one of tens of microseconds, one for a
// last-level cache, one far beyond it, and one beyond it with short rows.
constexpr std::pair<index_t, index_t> kResidentShape{1088, 88}, kShortShape{192, 264}, kSmallShape{448, 1216}, kCacheShape{1344, 2976},
    kDramShape{2624, 7104}, kDramShortShape{704, 9536};

Problem problem_of(std::pair<index_t, index_t> shape, DType dtype, index_t batch = 1) {
  Problem problem;
  problem.d_model = shape.first;
  problem.d_ff = shape.second;
  problem.batch = batch;
  problem.dtype = dtype;
  return problem;
}

/// In the order of PlanIndex.
std::vector<Plan> plans_for(const Problem& problem, index_t interim_tiles) {
  return {default_plan(problem, Strategy::row_fused, true), default_plan(problem, Strategy::row_fused),
          default_plan(problem, Strategy::unfused),
          default_sign_split_plan(problem, Variant::streams, Repair::selective, false, 1),
          default_sign_split_plan(problem, Variant::interim, Repair::selective, false, interim_tiles),
          default_plan(problem, Strategy::certified, true)};
}

Trial resident(const std::string& what, std::pair<index_t, index_t> shape, DType dtype, index_t batch, double budget_s) {
  const Problem problem = problem_of(shape, dtype, batch);
  std::vector<Plan> plans = plans_for(problem, 4);
  for (Plan& plan : plans) plan.parts = 1;
  return {what, {problem, plans, 0.05, Residency::warm, 1, budget_s}, {}};
}

Trial threaded(const std::string& what, std::pair<index_t, index_t> shape, index_t batch, Residency residency, int threads, double budget_s) {
  const Problem problem = problem_of(shape, DType::bf16, batch);
  return {what, {problem, plans_for(problem, 2), 0.15, residency, threads, budget_s}, {}};
}

bool was_run(const Trial& trial) { return trial.results.size() == trial.request.plans.size() && !trial.results.empty(); }

/// Relative difference of prediction and measurement over all cases: 90 % of a normal distribution with their spread.
double residual(const Machine& machine, const std::string& isa, const std::vector<Trial>& trials) {
  double squares = 0, count = 0;
  for (const Trial& trial : trials) {
    for (std::size_t plan = 0; plan < trial.results.size(); ++plan) {
      const double ratio = predicted_s({trial, plan}, machine, isa) / trial.results[plan].median_s - 1.0;
      squares += ratio * ratio;
      ++count;
    }
  }
  return count > 0 ? 1.645 * std::sqrt(squares / count) : 0.0;
}

double gap_residual(const Machine& machine, const std::string& isa, const TrialCase& a, const TrialCase& b) {
  const double predicted = predicted_s(a, machine, isa) - predicted_s(b, machine, isa);
  const double measured = a.result().median_s - b.result().median_s;
  return std::abs(predicted - measured) / std::max(a.result().median_s, b.result().median_s);
}

void fit_errors(Machine& machine, const std::string& isa, const std::vector<Trial>& trials) {
  // Floors: the trials that a parameter was fitted to say little about shapes not seen. docs/simulator.md says how wrong the
  // model was on others.
  const char* source = "signsplit calibrate: what the fit leaves of the trials, at least the floor";
  machine.model["error"] = {std::max(kErrorFloor, residual(machine, isa, trials)), "1", Kind::fitted, source, 0.0};
  if (!was_run(trials[kDram])) return;
  const double gap = gap_residual(machine, isa, {trials[kDram], kUnfused}, {trials[kDram], kDense});
  machine.model["gap_error"] = {std::clamp(gap, 0.02, 0.10), "1", Kind::fitted, source, 0.0};
}

}  // namespace

double predicted_s(const TrialCase& one, const Machine& machine, const std::string& isa) {
  const TrialRequest& request = one.trial.request;
  const Plan& plan = request.plans[one.plan];
  const Activity activity = activity_from(one.result().statistics, plan, request.problem);
  const auto prediction = predict({request.problem, plan, activity, request.residency, request.threads, isa}, machine);
  return prediction.ok() ? prediction->time_s : -1.0;
}

void set_rate(Machine& machine, const std::string& isa, const std::string& name, const Quantity& per_s) {
  for (Rate& rate : machine.rates) {
    if (rate.isa == isa && rate.name == name) {
      rate.per_s = per_s;
      return;
    }
  }
  machine.rates.push_back({isa, name, per_s});
}

void fit_rate(Machine& machine, const std::string& isa, const std::string& name, const TrialCase& one) {
  const std::optional<Quantity> fma = kernel_rate(machine, isa, "fma_f32");
  const double peak = fma ? 0.5 * fma->value : 1e12;
  const double most = name == "certify" ? 4.0 * peak : peak;  // an instruction multiplies four pairs of bytes per lane
  const Setter set = [&](Machine& m, double value) { set_rate(m, isa, name, {value, "elem/s", Kind::fitted, "", 0.0}); };
  set_rate(machine, isa, name, solved(machine, isa, one, 1e7, std::max(most, 2e7), set, "elem/s"));
}

void fit_model(Machine& machine, const std::string& isa, const std::string& name, const TrialCase& one, double low, double high) {
  const Setter set = [&](Machine& m, double value) { m.model[name].value = value; };
  const ModelField* field = find_model_field(name);
  machine.model[name] = solved(machine, isa, one, low, high, set, field != nullptr ? field->base_unit.data() : "1");
}

std::vector<Trial> trial_requests(int threads, bool quick) {
  const double small = quick ? 0.4 : 0.8, large = quick ? 1.0 : 2.0;
  return {
      resident("resident f32", kResidentShape, DType::f32, 1, small),
      resident("resident bf16", kResidentShape, DType::bf16, 1, small),
      resident("resident int8", kResidentShape, DType::int8, 1, small),
      resident("resident, short rows, bf16", kShortShape, DType::bf16, 1, small),
      resident("resident, batch 4, bf16", kResidentShape, DType::bf16, 4, small),
      resident("resident, batch 8, bf16", kResidentShape, DType::bf16, 8, small),
      threaded("last-level cache, bf16", kCacheShape, 1, Residency::warm, threads, small),
      threaded("small, bf16", kSmallShape, 1, Residency::warm, threads, small),
      threaded("main memory, bf16", kDramShape, 1, Residency::cold, threads, large),
      threaded("main memory, short rows, bf16", kDramShortShape, 1, Residency::cold, threads, small),
      threaded("main memory, batch 4, bf16", kDramShape, 4, Residency::cold, threads, large),
  };
}

namespace {

/// The fits of one round; each starts from the values of those before.
void fit_round(Machine& machine, const std::string& isa, const std::vector<Trial>& trials) {
  const auto rate = [&](const char* name, TrialIndex trial, PlanIndex plan) {
    if (was_run(trials[trial])) fit_rate(machine, isa, name, {trials[trial], plan});
  };
  const auto model = [&](const char* name, TrialIndex trial, PlanIndex plan, double low, double high) {
    if (was_run(trials[trial])) fit_model(machine, isa, name, {trials[trial], plan}, low, high);
  };
  rate("up_f32", kF32, kSkip);
  rate("down_f32", kF32, kDense);
  rate("streams_f32", kF32, kStreams);
  rate("up_bf16", kBf16, kSkip);
  rate("down_bf16", kBf16, kDense);
  rate("streams_bf16", kBf16, kStreams);
  rate("up_int8", kInt8, kSkip);
  rate("down_int8", kInt8, kDense);
  rate("streams_int8", kInt8, kStreams);
  model("piece_overhead_s", kShortRows, kSkip, 0.0, 1e-6);
  model("push_overhead_s", kBf16, kInterim, 0.0, 1e-6);
  rate("token_bf16", kBatch, kSkip);
  rate("down_token_bf16", kBatch, kDense);
  model("late_token_share", kBatch8, kDense, 0.05, 1.5);
  model("push_batch_s", kBatch, kInterim, 0.0, 1e-5);
  rate("certify", kCache, kCertified);
  model("cache_efficiency", kCache, kDense, 0.3, 2.0);
  model("thread_wait_s", kSmall, kDense, 0.0, 2e-5);
  model("stream_efficiency", kDram, kDense, 0.3, 2.0);
  model("gather_gap_bytes", kDram, kSkip, 0.0, 65536.0);
  model("gather_gap_rows", kDramShort, kSkip, 0.0, 16.0);
  model("overlap_loss", kDramBatch, kDense, 0.0, 1.0);
  model("split_overlap_loss", kDram, kInterim, 0.0, 1.5);
  model("certified_overlap_loss", kDram, kCertified, 0.0, 1.5);
  model("streams_overlap_loss", kDram, kStreams, 0.0, 1.5);
}

/// Rates that no trial is for follow from bf16's: a further token does not convert the weights again.
void derive_rates(Machine& machine, const std::string& isa) {
  for (const char* of : {"token_", "down_token_"}) {
    for (const char* type : {"f32", "f16", "int8"}) {
      Quantity token = *kernel_rate(machine, isa, std::string(of) + "bf16");
      token.source += "; a further token does not convert the weights again";
      set_rate(machine, isa, std::string(of) + type, token);
    }
  }
  for (const char* name : {"up_f16", "down_f16", "streams_f16"}) {
    Quantity rate = *kernel_rate(machine, isa, std::string(name).replace(std::string(name).size() - 3, 3, "bf16"));
    rate.source += ", taken for f16";
    set_rate(machine, isa, name, rate);
  }
}

}  // namespace

void fit_all(Machine& machine, const std::string& isa, const std::vector<Trial>& trials) {
  for (int round = 0; round < 6; ++round) fit_round(machine, isa, trials);
  derive_rates(machine, isa);
  fit_errors(machine, isa, trials);
}

std::vector<std::pair<index_t, index_t>> calibration_shapes() {
  return {kResidentShape, kShortShape, kSmallShape, kCacheShape, kDramShape, kDramShortShape};
}

}  // namespace signsplit::sim
