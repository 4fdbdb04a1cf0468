#include "fit.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

#include "lookup.hpp"
#include "model_fields.hpp"

namespace signsplit::sim {
namespace {

using Setter = std::function<void(Machine&, double)>;

/// The value in [low, high] at which the prediction is `target_s`. The prediction is monotone in the value; where the
/// target lies beyond an end, that end. Bisects the logarithm when low > 0.
double solve(Machine machine, const std::string& isa, const Trial& trial, double target_s, double low, double high,
             const Setter& set) {
  const auto excess = [&](double value) {
    set(machine, value);
    return predicted_s(trial, machine, isa) - target_s;
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

Quantity solved(const Machine& machine, const std::string& isa, const Trial& trial, double low, double high, const Setter& set,
                const char* unit) {
  const double target = trial.result.median_s, spread = median_ci90_s(trial.result);
  const auto at = [&](double seconds) { return solve(machine, isa, trial, seconds, low, high, set); };
  Quantity quantity{at(target), unit, Kind::fitted, "signsplit calibrate: " + trial.what, 0.0};
  quantity.ci90 = 0.5 * std::abs(at(target + spread) - at(std::max(target - spread, 0.1 * target)));
  return quantity;
}

Trial make_trial(const char* what, Problem problem, Plan plan, double active, Residency residency, int threads, double budget_s) {
  Trial trial;
  trial.what = what;
  trial.request = {problem, plan, active, residency, threads, budget_s};
  return trial;
}

/// Positions in trial_requests().
enum TrialIndex : std::size_t {
  kUpF32, kDownF32, kUpBf16, kDownBf16, kStreamsBf16, kPiecesBf16, kBatchBf16, kUnfusedDram, kFusedDram, kSkipDram, kBatchDram,
};

// Layers small enough for half of a 1 MiB second-level cache in f32, and one far beyond it.
constexpr std::pair<index_t, index_t> kResidentShape{1088, 48}, kDramShape{1728, 6208};

Problem resident(DType dtype, index_t batch = 1) { return {kResidentShape.first, kResidentShape.second, batch, dtype, {}, false}; }

Plan one_part(Plan plan) {
  plan.parts = 1;
  return plan;
}

/// Relative difference of prediction and measurement over all trials: 90 % of a normal distribution with their spread.
double residual(const Machine& machine, const std::string& isa, const std::vector<Trial>& trials) {
  double squares = 0;
  for (const Trial& trial : trials) {
    const double ratio = predicted_s(trial, machine, isa) / trial.result.median_s - 1.0;
    squares += ratio * ratio;
  }
  return 1.645 * std::sqrt(squares / static_cast<double>(trials.size()));
}

double gap_residual(const Machine& machine, const std::string& isa, const Trial& a, const Trial& b) {
  const double predicted = predicted_s(a, machine, isa) - predicted_s(b, machine, isa);
  const double measured = a.result.median_s - b.result.median_s;
  return std::abs(predicted - measured) / std::max(a.result.median_s, b.result.median_s);
}

void fit_errors(Machine& machine, const std::string& isa, const std::vector<Trial>& trials) {
  // Floors: the trials that a parameter was fitted to say little about shapes not seen. On the first machine, a 2-core Xeon
  // virtual machine, the quick suite found a mean error of 9 % and a 95th percentile of 20 %.
  const char* source = "signsplit calibrate: what the fit leaves of the trials, at least the floor";
  machine.model["error"] = {std::max(0.18, residual(machine, isa, trials)), "1", Kind::fitted, source, 0.0};
  const double gap = gap_residual(machine, isa, trials[kUnfusedDram], trials[kFusedDram]);
  machine.model["gap_error"] = {std::clamp(gap, 0.02, 0.10), "1", Kind::fitted, source, 0.0};
}

}  // namespace

double predicted_s(const Trial& trial, const Machine& machine, const std::string& isa) {
  const TrialRequest& request = trial.request;
  const Activity activity = activity_from(trial.result.statistics, request.plan, request.problem);
  const auto prediction = predict({request.problem, request.plan, activity, request.residency, request.threads, isa}, machine);
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

void fit_rate(Machine& machine, const std::string& isa, const std::string& name, const Trial& trial) {
  const std::optional<Quantity> fma = kernel_rate(machine, isa, "fma_f32");
  const double peak = fma ? 0.5 * fma->value : 1e12;
  const Setter set = [&](Machine& m, double value) { set_rate(m, isa, name, {value, "elem/s", Kind::fitted, "", 0.0}); };
  set_rate(machine, isa, name, solved(machine, isa, trial, 1e7, std::max(peak, 2e7), set, "elem/s"));
}

void fit_model(Machine& machine, const std::string& isa, const std::string& name, const Trial& trial, double low, double high) {
  const Setter set = [&](Machine& m, double value) { m.model[name].value = value; };
  const ModelField* field = find_model_field(name);
  machine.model[name] = solved(machine, isa, trial, low, high, set, field != nullptr ? field->base_unit.data() : "1");
}

std::vector<Trial> trial_requests(int threads, bool quick) {
  const double small = quick ? 0.2 : 0.4, large = quick ? 1.0 : 2.0;
  const Problem f32 = resident(DType::f32), bf16 = resident(DType::bf16), batch = resident(DType::bf16, 4);
  const Problem dram{kDramShape.first, kDramShape.second, 1, DType::bf16, {}, false};
  const Problem dram_batch{kDramShape.first, kDramShape.second, 4, DType::bf16, {}, false};
  const auto fused = [](const Problem& problem, bool skip) { return default_plan(problem, Strategy::row_fused, skip); };
  const auto split = [](const Problem& problem, Variant variant, index_t k_tiles) {
    return one_part(default_sign_split_plan(problem, variant, Repair::selective, false, k_tiles));
  };
  const Residency warm = Residency::warm, cold = Residency::cold;
  return {
      make_trial("row_fused+skip, resident f32", f32, one_part(fused(f32, true)), 0.02, warm, 1, small),
      make_trial("row_fused, resident f32", f32, one_part(fused(f32, false)), 0.5, warm, 1, small),
      make_trial("row_fused+skip, resident bf16", bf16, one_part(fused(bf16, true)), 0.02, warm, 1, small),
      make_trial("row_fused, resident bf16", bf16, one_part(fused(bf16, false)), 0.5, warm, 1, small),
      make_trial("sign_split/streams, resident bf16", bf16, split(bf16, Variant::streams, 1), 0.5, warm, 1, small),
      make_trial("sign_split/interim, 4 K tiles, resident bf16", bf16, split(bf16, Variant::interim, 4), 0.5, warm, 1, small),
      make_trial("row_fused, batch 4, resident bf16", batch, one_part(fused(batch, false)), 0.5, warm, 1, small),
      make_trial("unfused, main memory bf16", dram, default_plan(dram, Strategy::unfused), 0.5, cold, threads, large),
      make_trial("row_fused, main memory bf16", dram, fused(dram, false), 0.5, cold, threads, large),
      make_trial("row_fused+skip, main memory bf16", dram, fused(dram, true), 0.2, cold, threads, large),
      make_trial("row_fused, batch 4, main memory bf16", dram_batch, fused(dram_batch, false), 0.5, cold, threads, large),
  };
}

void fit_all(Machine& machine, const std::string& isa, const std::vector<Trial>& trials) {
  // The parameters depend on each other: every round starts from the values of the one before.
  for (int round = 0; round < 6; ++round) {
    fit_rate(machine, isa, "up_f32", trials[kUpF32]);
    fit_rate(machine, isa, "down_f32", trials[kDownF32]);
    fit_rate(machine, isa, "up_bf16", trials[kUpBf16]);
    fit_rate(machine, isa, "down_bf16", trials[kDownBf16]);
    fit_model(machine, isa, "push_overhead_s", trials[kPiecesBf16], 0.0, 1e-6);
    fit_rate(machine, isa, "streams_bf16", trials[kStreamsBf16]);
    fit_rate(machine, isa, "token_bf16", trials[kBatchBf16]);
    fit_model(machine, isa, "stream_efficiency", trials[kUnfusedDram], 0.3, 1.0);
    fit_model(machine, isa, "overlap_loss", trials[kBatchDram], 0.0, 1.0);
    fit_model(machine, isa, "gather_gap_bytes", trials[kSkipDram], 0.0, 65536.0);
  }
  Quantity token = *kernel_rate(machine, isa, "token_bf16");
  token.source += "; a further token does not convert the weights again, so f32 takes the same";
  set_rate(machine, isa, "token_f32", token);
  Quantity streams = *kernel_rate(machine, isa, "streams_bf16");
  const double ratio = kernel_rate(machine, isa, "up_f32")->value / kernel_rate(machine, isa, "up_bf16")->value;
  streams.value *= ratio;
  streams.ci90 *= ratio;
  streams.source += ", times up_f32 over up_bf16";
  set_rate(machine, isa, "streams_f32", streams);
  fit_errors(machine, isa, trials);
}

std::vector<std::pair<index_t, index_t>> calibration_shapes() { return {kResidentShape, kDramShape}; }

}  // namespace signsplit::sim
