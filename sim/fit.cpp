#include "fit.hpp"

#include <algorithm>
#include <cmath>

#include "core/quantile.hpp"
#include "cost_model.hpp"
#include "least_squares.hpp"
#include "lookup.hpp"
#include "model_fields.hpp"

namespace signsplit::sim {
namespace {

/// No interval is narrower: the half widths (90 %) that the suite `development` needed, on the machine that docs/simulator.md
/// describes; trials that the parameters were fitted to say little about shapes not seen.
constexpr double kErrorFloor = 0.12, kCacheErrorFloor = 0.14;
/// Below these the signs of differences are guesses, whatever the trials say: of five runs' verdicts 93 % were right with half of them, 96 % with these.
constexpr double kGapErrorFloor = 0.0025, kUnlikeErrorFloor = 0.012;

/// A parameter that is fitted, and how far (one standard deviation of its logarithm) it may be from what is assumed.
struct FitParameter {
  const char* name;
  bool rate;
  double sigma;
};

// Rates differ between processors by their instruction sets' ports, so their priors are wide; efficiencies are near 1, as the curve is
// measured with loads alone and the kernels' rows are long.
constexpr FitParameter kParameters[] = {
    {"up_f32", true, 0.2}, {"down_f32", true, 0.2}, {"pieces_f32", true, 0.5}, {"push_f32", true, 0.5}, {"streams_f32", true, 0.5},
    {"up_bf16", true, 0.2}, {"down_bf16", true, 0.2}, {"pieces_bf16", true, 0.5}, {"push_bf16", true, 0.5},
    {"streams_bf16", true, 0.5}, {"up_f16", true, 0.5}, {"down_f16", true, 0.5}, {"pieces_f16", true, 0.5}, {"push_f16", true, 0.5},
    {"streams_f16", true, 0.5}, {"up_int8", true, 0.2}, {"down_int8", true, 0.2}, {"pieces_int8", true, 0.5},
    {"push_int8", true, 0.5}, {"streams_int8", true, 0.5}, {"up_w8a8", true, 0.5}, {"down_w8a8", true, 0.5},
    {"up_f32_2", true, 0.4}, {"up_f32_4", true, 0.4}, {"up_f32_8", true, 0.4}, {"down_f32_2", true, 0.4}, {"down_f32_4", true, 0.4},
    {"down_f32_8", true, 0.4}, {"up_bf16_2", true, 0.4}, {"up_bf16_4", true, 0.4}, {"up_bf16_8", true, 0.4},
    {"down_bf16_2", true, 0.4}, {"down_bf16_4", true, 0.4}, {"down_bf16_8", true, 0.4}, {"up_int8_2", true, 0.4},
    {"up_int8_4", true, 0.4}, {"up_int8_8", true, 0.4}, {"down_int8_2", true, 0.4}, {"down_int8_4", true, 0.4},
    {"down_int8_8", true, 0.4}, {"certify", true, 0.7}, {"piece_overhead_s", false, 0.7}, {"piece_batch_s", false, 0.5},
    {"batch_overlap_loss", false, 0.3}, {"push_token_s", false, 0.5}, {"streams_token_s", false, 0.5},
    {"batch_read_rate", false, 0.1}, {"push_overhead_s", false, 0.3}, {"push_batch_s", false, 0.5},
    {"streams_overhead_s", false, 0.3}, {"streams_batch_s", false, 0.5}, {"telescoping_share", false, 0.2},
    {"row_overhead_s", false, 0.7}, {"further_block_s", false, 0.7}, {"skip_overhead_s", false, 0.7}, {"certify_overhead_s", false, 0.7}, {"certify_batch_s", false, 0.7}, {"survivor_s", false, 0.7},
    {"certify_token_share", false, 0.2},
    {"redo_overhead_s", false, 0.5}, {"restored_cost", false, 0.5}, {"quantize_rate", false, 0.7}, {"split_miss_s", false, 0.7},
    {"streams_miss_s", false, 0.7}, {"batch_miss_s", false, 0.7},
    {"thread_wait_s", false, 0.7}, {"barrier_wait_s", false, 0.7}, {"memory_wait_s", false, 0.7}, {"first_byte_s", false, 0.5}, {"switch_s", false, 0.7},
    {"unannounced_s", false, 0.5}, {"guess_overhead_s", false, 0.4}, {"guess_batch_s", false, 0.4}, {"skip_lost_share", false, 0.5}, {"unannounced_gated_s", false, 0.4}, {"fused_lost_share", false, 0.5}, {"fused_batch_lost_share", false, 0.7}, {"skip_batch_lost_share", false, 0.3}, {"unasked_s", false, 0.5}, {"survivor_lost_share", false, 0.3}, {"batch_row_wait_s", false, 0.5}, {"batch_row_s", false, 0.5},
    {"exchange_rate", false, 0.7}, {"stream_efficiency", false, 0.01}, {"small_page_efficiency", false, 0.3},
    {"cache_efficiency", false, 0.02}, {"mixed_rate", false, 0.5}, {"gather_gap_bytes", false, 0.7}, {"gather_gap_rows", false, 0.5},
    {"overlap_loss", false, 0.5}, {"cache_overlap_loss", false, 0.5}, {"split_overlap_loss", false, 0.3},
    {"streams_overlap_loss", false, 0.3}, {"split_stall_rate", false, 0.2}, {"streams_stall_rate", false, 0.15},
    {"row_read_rate", false, 0.1}, {"certified_overlap_loss", false, 0.3}, {"imbalance", false, 0.3},
};

double prior_of(const FitParameter& parameter, const Machine& machine, const std::string& isa) {
  if (!parameter.rate) return find_model_field(parameter.name)->assumed;
  const std::optional<Quantity> rate = kernel_rate(machine, isa, parameter.name);
  return rate ? rate->value : 1e10;
}

/// With several tokens f16 takes what bf16 takes.
void write_rate(Machine& machine, const std::string& isa, const std::string& name, const Quantity& rate) {
  set_rate(machine, isa, name, rate);
  const std::size_t type = name.find("_bf16_");
  if (type != std::string::npos) set_rate(machine, isa, std::string(name).replace(type, 6, "_f16_"), rate);
}

void write_parameters(Machine& machine, const std::string& isa, const std::vector<double>& logarithms) {
  for (std::size_t i = 0; i < logarithms.size(); ++i) {
    const FitParameter& parameter = kParameters[i];
    Quantity quantity{std::exp(logarithms[i]), "elem/s", Kind::fitted, "signsplit calibrate: all trials", 0.0};
    if (parameter.rate) {
      write_rate(machine, isa, parameter.name, quantity);
    } else {
      quantity.unit = find_model_field(parameter.name)->base_unit;
      machine.model[parameter.name] = quantity;
    }
  }
}

/// Relative standard deviation of a trial's median, with what no spread shows: layout, alignment, the mood of the branch predictor.
double relative_sigma(const TrialResult& result) {
  constexpr double kUnseen = 0.05;
  return std::hypot(kUnseen, (result.p90_s - result.p10_s) / 2.563 / std::sqrt(5.0) / result.median_s);
}

Result<Prediction> prediction_of(const Trial& trial, std::size_t plan, const Machine& now, const std::string& isa) {
  const TrialRequest& request = trial.request;
  const Activity activity = activity_from(trial.results[plan].statistics, request.plans[plan], request.problem);
  return predict_time({request.problem, request.plans[plan], activity, request.residency, request.threads, isa}, now);
}

double predicted_at(const Trial& trial, std::size_t plan, const Machine& now, const std::string& isa) {
  const auto prediction = prediction_of(trial, plan, now, isa);
  return prediction.ok() ? prediction->time_s : -1.0;
}

/// log(predicted / measured) of every plan that was run, in order.
std::vector<double> log_errors(const Machine& machine, const std::string& isa, const std::vector<Trial>& trials) {
  std::vector<double> errors;
  for (const Trial& trial : trials) {
    const Machine now = as_of_now(machine, trial.reading);
    for (std::size_t plan = 0; plan < trial.results.size(); ++plan) {
      errors.push_back(std::log(predicted_at(trial, plan, now, isa) / trial.results[plan].median_s));
    }
  }
  return errors;
}

std::vector<double> sigmas_of(const std::vector<Trial>& trials) {
  std::vector<double> sigmas;
  for (const Trial& trial : trials) {
    for (const TrialResult& result : trial.results) sigmas.push_back(relative_sigma(result));
  }
  return sigmas;
}

/// Two plans of one trial. Alike: they differ in whether they are fused, and in nothing else.
struct PlanPair {
  bool alike = true;
  const Trial* trial = nullptr;
  std::size_t unfused_plan = 0, fused_plan = 0;  ///< of the trial
  std::size_t unfused = 0, fused = 0;  ///< places among the results of all trials
  double measured = 0;                 ///< log(unfused / fused), measured beside each other
  double sigma = 0;                    ///< of that, with what no spread shows
  double measured_sigma = 0;           ///< without it
};

/// Whether the first is the unfused and the second the fused plan of a pair, or one skips where the other does not.
enum class Pairing { none, alike, unlike };
Pairing pairing_of(const Plan& a, const Plan& b) {
  if (a.strategy != Strategy::unfused || b.placement == Placement::residual) return Pairing::none;
  if (b.strategy == Strategy::row_fused && a.skip == b.skip) return Pairing::alike;
  const bool certified = b.strategy == Strategy::certified && a.skip, skips = b.strategy == Strategy::unfused && b.skip && !a.skip;
  return certified || skips ? Pairing::unlike : Pairing::none;
}

/// Beside each other two plans are known far better than each by itself: what a trial's times share falls out of the difference.
std::vector<PlanPair> pairs_of(const std::vector<Trial>& trials) {
  constexpr double kUnseen = 0.006, kUnseenUnlike = 0.05, kUnseenSeconds = 2e-7;
  std::vector<PlanPair> pairs;
  std::size_t first = 0;
  for (const Trial& trial : trials) {
    const std::vector<Plan>& plans = trial.request.plans;
    for (std::size_t u = 0; u < trial.results.size(); ++u) {
      for (std::size_t f = 0; f < trial.results.size(); ++f) {
        const TrialResult &a = trial.results[u], &b = trial.results[f];
        const Pairing pairing = pairing_of(plans[u], plans[f]);
        if (pairing == Pairing::none || !(a.paired_s > 0.0 && b.paired_s > 0.0)) continue;
        const bool alike = pairing == Pairing::alike;
        const double sigma = std::hypot(a.paired_ci90_s / a.paired_s, b.paired_ci90_s / b.paired_s) / 1.645;
        const double unseen = std::hypot(alike ? kUnseen : kUnseenUnlike, kUnseenSeconds / b.paired_s);
        pairs.push_back({alike, &trial, u, f, first + u, first + f, std::log(a.paired_s / b.paired_s), std::hypot(unseen, sigma), sigma});
      }
    }
    first += trial.results.size();
  }
  return pairs;
}

/// What is predicted of a pair's difference minus what was measured; `errors` as of log_errors.
double gap_error_of(const PlanPair& pair, const std::vector<double>& errors, const std::vector<double>& measured) {
  return errors[pair.unfused] + measured[pair.unfused] - errors[pair.fused] - measured[pair.fused] - pair.measured;
}

std::vector<double> log_medians(const std::vector<Trial>& trials) {
  std::vector<double> medians;
  for (const Trial& trial : trials) {
    for (const TrialResult& result : trial.results) medians.push_back(std::log(result.median_s));
  }
  return medians;
}

/// Half width that holds 90 % of a normal distribution with the spread of the errors of one residency.
double half_width(const std::vector<Trial>& trials, const std::vector<double>& errors, Residency residency) {
  double squares = 0, count = 0;
  std::size_t first = 0;
  for (const Trial& trial : trials) {
    for (std::size_t plan = 0; plan < trial.results.size(); ++plan) {
      if (trial.request.residency != residency) continue;
      squares += errors[first + plan] * errors[first + plan];
      ++count;
    }
    first += trial.results.size();
  }
  return count > 0 ? 1.645 * std::sqrt(squares / count) : 0.0;
}

/// What the uncertain terms of a pair leave open of its difference: standard deviation, a share of the time.
double gap_sigma_of_terms(const PlanPair& pair, const Machine& machine, const std::string& isa) {
  constexpr double kHalfWidth = 1.645;
  const Machine now = as_of_now(machine, pair.trial->reading);
  const auto a = prediction_of(*pair.trial, pair.unfused_plan, now, isa), b = prediction_of(*pair.trial, pair.fused_plan, now, isa);
  return a.ok() && b.ok() ? gap_uncertainty_of_terms_s(a->terms, b->terms, now) / std::max(a->time_s, b->time_s) / kHalfWidth : 0.0;
}

/// The width beyond which a predicted difference has the right sign in six of eleven cases or more: to one side errors exceed it in five.
/// Most differences are far larger, so that of all verdicts few are wrong. Without what measuring them and uncertain terms leave open. Of a
/// normal distribution the median square is 0.455 of the mean square, and this width 0.17 of the median error.
template <class Wanted>
double gap_error_left(const Machine& machine, const std::string& isa, const std::vector<Trial>& trials, const std::vector<double>& errors,
                          Wanted wanted) {
  constexpr double kMedianSquare = 0.455, kSixOfEleven = 0.17;
  std::vector<double> squares, known;
  const std::vector<double> measured = log_medians(trials);
  for (const PlanPair& pair : pairs_of(trials)) {
    if (!wanted(pair)) continue;
    const double error = gap_error_of(pair, errors, measured);
    squares.push_back(error * error);
    known.push_back(kMedianSquare * (std::pow(gap_sigma_of_terms(pair, machine, isa), 2.0) + std::pow(pair.measured_sigma, 2.0)));
  }
  return kSixOfEleven * std::sqrt(std::max(0.0, median(squares) - median(known)));
}

void fit_errors(Machine& machine, const std::string& isa, const std::vector<Trial>& trials) {
  const char* source = "signsplit calibrate: what the fit leaves of the trials, at least what the development suite needed";
  const std::vector<double> errors = log_errors(machine, isa, trials);
  const double memory = std::max(kErrorFloor, half_width(trials, errors, Residency::cold));
  machine.model["error"] = {memory, "1", Kind::fitted, source, 0.0};
  machine.model["cache_error"] = {std::max(kCacheErrorFloor, half_width(trials, errors, Residency::warm)), "1", Kind::fitted, source, 0.0};
  const auto gap_error = [&](const char* name, double floor, bool alike, Residency residency) {
    const double left = gap_error_left(machine, isa, trials, errors, [&](const PlanPair& pair) {
      return pair.alike == alike && (!alike || pair.trial->request.residency == residency);
    });
    machine.model[name] = {std::max(floor, left), "1", Kind::fitted, source, 0.0};
  };
  gap_error("gap_error", kGapErrorFloor, true, Residency::cold);
  gap_error("cache_gap_error", kGapErrorFloor, true, Residency::warm);
  gap_error("unlike_error", kUnlikeErrorFloor, false, Residency::cold);
}

constexpr Residency kWarm = Residency::warm, kCold = Residency::cold;
constexpr DType kF32 = DType::f32, kBf16 = DType::bf16, kF16 = DType::f16, kInt8 = DType::int8;
enum Form { plain, gated, w8a8 };

/// A layer that calibration runs: every schedule on it.
struct TrialLayer {
  const char* what;
  index_t d_model, d_ff;
  DType dtype;
  index_t batch;
  Form form;
  double active;
  Residency residency;
};

/// Widths as models have them, multiples of 256, and others.
constexpr TrialLayer kTrialLayers[] = {
    {"in cache, f32", 192, 528, kF32, 1, plain, 0.3, kWarm},
    {"in cache, f32", 704, 2976, kF32, 1, plain, 0.15, kWarm},
    {"in cache, f32", 448, 1216, kF32, 1, plain, 1.0, kWarm},
    {"in cache, f32", 1344, 3712, kF32, 1, plain, 0.1, kWarm},
    {"in cache, bf16", 448, 1216, kBf16, 1, plain, 0.5, kWarm},
    {"in cache, bf16", 1280, 3072, kBf16, 1, plain, 0.15, kWarm},
    {"in cache, bf16", 704, 2976, kBf16, 1, plain, 0.03, kWarm},
    {"in cache, int8", 192, 528, kInt8, 1, plain, 0.5, kWarm},
    {"in cache, int8", 1344, 2976, kInt8, 1, plain, 0.15, kWarm},
    {"in cache, batches", 448, 1216, kF32, 2, plain, 0.3, kWarm},
    {"in cache, batches", 704, 2112, kF32, 4, plain, 0.3, kWarm},
    {"in cache, batches", 448, 1216, kF32, 8, plain, 0.2, kWarm},
    {"in cache, batches", 1280, 3072, kBf16, 2, plain, 0.1, kWarm},
    {"in cache, batches", 704, 2112, kBf16, 2, plain, 0.7, kWarm},
    {"in cache, batches", 768, 2304, kBf16, 4, plain, 0.2, kWarm},
    {"in cache, batches", 1536, 2304, kBf16, 8, plain, 0.1, kWarm},
    {"in cache, batches", 704, 2112, kBf16, 6, plain, 0.3, kWarm},
    {"in cache, batches", 704, 2976, kInt8, 2, plain, 0.2, kWarm},
    {"in cache, batches", 448, 1216, kInt8, 4, plain, 0.3, kWarm},
    {"in cache, batches", 768, 2304, kInt8, 8, plain, 0.1, kWarm},
    {"in cache, gated", 192, 528, kBf16, 2, gated, 0.3, kWarm},
    {"in cache, gated", 704, 2112, kBf16, 1, gated, 0.2, kWarm},
    {"in cache, f16 and w8a8", 704, 2112, kF16, 1, plain, 0.2, kWarm},
    {"in cache, f16 and w8a8", 704, 2112, kInt8, 1, w8a8, 0.2, kWarm},
    {"main memory, f32", 704, 9536, kF32, 1, plain, 0.1, kCold},
    {"main memory, f32", 1024, 3328, kF32, 1, plain, 1.0, kCold},
    {"main memory, f32", 2048, 4352, kF32, 1, plain, 0.4, kCold},
    {"main memory, bf16", 2624, 7104, kBf16, 1, plain, 0.15, kCold},
    {"main memory, bf16", 2048, 6656, kBf16, 1, plain, 0.5, kCold},
    {"main memory, bf16", 1536, 5120, kBf16, 1, plain, 0.03, kCold},
    {"main memory, bf16", 2560, 2304, kBf16, 1, plain, 1.0, kCold},
    {"main memory, int8", 3584, 3456, kInt8, 1, plain, 0.15, kCold},
    {"main memory, int8", 1344, 2976, kInt8, 1, plain, 0.02, kCold},
    {"main memory, batches", 2048, 3328, kF32, 2, plain, 0.3, kCold},
    {"main memory, batches", 1024, 6656, kF32, 4, plain, 0.3, kCold},
    {"main memory, batches", 1344, 5952, kBf16, 2, plain, 0.3, kCold},
    {"main memory, batches", 2048, 4608, kBf16, 4, plain, 0.2, kCold},
    {"main memory, batches", 2048, 5376, kBf16, 8, plain, 0.15, kCold},
    {"main memory, batches", 704, 4736, kBf16, 5, plain, 0.2, kCold},
    {"main memory, batches", 1024, 5120, kBf16, 8, plain, 0.1, kCold},
    {"main memory, batches", 2560, 2304, kInt8, 2, plain, 0.2, kCold},
    {"main memory, small and gated", 448, 1216, kBf16, 1, plain, 0.3, kCold},
    {"main memory, small and gated", 1280, 3072, kBf16, 1, gated, 0.15, kCold},
    {"main memory, small and gated", 2048, 3584, kBf16, 1, gated, 0.25, kCold},
    {"main memory, small and gated", 768, 2816, kInt8, 2, gated, 0.2, kCold},
};

/// Layers that take longer get more time, if not as many rounds as small ones, whose medians are soon known.
double budget_of(const TrialLayer& layer, const Problem& problem) {
  constexpr double kSecondsPerByte = 2.3e-8;
  return (layer.residency == kCold ? 0.35 : 0.22) + kSecondsPerByte * static_cast<double>(weight_bytes(problem));
}

Problem problem_of(const TrialLayer& layer) {
  Problem problem{.d_model = layer.d_model, .d_ff = layer.d_ff, .batch = layer.batch, .dtype = layer.dtype};
  problem.gated = layer.form == gated;
  if (layer.form == w8a8) problem.arithmetic = Arithmetic::w8a8;
  return problem;
}

/// Every family of schedules, in the order in which they are timed.
std::vector<Plan> plans_for(const Problem& problem) {
  if (problem.arithmetic == Arithmetic::w8a8) return {default_plan(problem, Strategy::unfused), default_plan(problem, Strategy::unfused, true)};
  std::vector<Plan> plans{default_plan(problem, Strategy::unfused), default_plan(problem, Strategy::row_fused),
                          default_plan(problem, Strategy::unfused, true), default_plan(problem, Strategy::row_fused, true),
                          default_plan(problem, Strategy::certified, true),
                          default_sign_split_plan(problem, Variant::telescoping, Repair::none, false),
                          default_sign_split_plan(problem, Variant::telescoping, Repair::none, true)};
  if (problem.gated) return plans;
  constexpr index_t kMostRestored = 4'000'000;  // weights: making a residual takes long for more
  if (problem.dtype == kBf16 && problem.batch == 1 && problem.d_model * problem.d_ff <= kMostRestored) {
    plans.push_back(default_plan(problem, Strategy::certified, true));
    plans.back().placement = Placement::residual;
  }
  for (const bool skip : {false, true}) {
    plans.push_back(default_sign_split_plan(problem, Variant::interim, skip ? Repair::redo : Repair::selective, skip));
    plans.push_back(default_sign_split_plan(problem, Variant::streams, skip ? Repair::redo : Repair::selective, skip));
  }
  return plans;
}

}  // namespace

double predicted_s(const Trial& trial, std::size_t plan, const Machine& machine, const std::string& isa) {
  return predicted_at(trial, plan, as_of_now(machine, trial.reading), isa);
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

std::vector<Trial> trial_requests(int threads, bool quick) {
  std::vector<Trial> trials;
  for (const TrialLayer& layer : kTrialLayers) {
    const Problem problem = problem_of(layer);
    const double budget_s = budget_of(layer, problem) * (quick ? 0.5 : 1.0);
    trials.push_back({layer.what, {problem, plans_for(problem), layer.active, layer.residency, threads, budget_s}});
  }
  return trials;
}

void fit_all(Machine& machine, const std::string& isa, const std::vector<Trial>& trials) {
  std::vector<double> priors;
  for (const FitParameter& parameter : kParameters) priors.push_back(std::log(prior_of(parameter, machine, isa)));
  const std::vector<double> sigmas = sigmas_of(trials), medians = log_medians(trials);
  const std::vector<PlanPair> pairs = pairs_of(trials);
  const Residuals residuals = [&](const std::vector<double>& logarithms, std::vector<double>& r) {
    Machine candidate = machine;
    write_parameters(candidate, isa, logarithms);
    r = log_errors(candidate, isa, trials);
    std::vector<double> gaps;
    for (const PlanPair& pair : pairs) gaps.push_back(gap_error_of(pair, r, medians) / pair.sigma);
    for (std::size_t i = 0; i < r.size(); ++i) r[i] /= sigmas[i];
    r.insert(r.end(), gaps.begin(), gaps.end());
    for (std::size_t i = 0; i < logarithms.size(); ++i) r.push_back((logarithms[i] - priors[i]) / kParameters[i].sigma);
  };
  constexpr double kOutlier = 2.0;  // standard deviations: beyond them the loss is linear
  constexpr double kLeastGain = 1e-5;  // half of the steps; what the other half gains is a hundredth of a residual
  write_parameters(machine, isa, minimise(residuals, priors, kOutlier, 20, kLeastGain).log_parameters);
  fit_errors(machine, isa, trials);
}

std::vector<std::pair<index_t, index_t>> calibration_shapes() {
  std::vector<std::pair<index_t, index_t>> shapes;
  for (const Trial& trial : trial_requests(1, true)) {
    const std::pair<index_t, index_t> shape{trial.request.problem.d_model, trial.request.problem.d_ff};
    if (std::find(shapes.begin(), shapes.end(), shape) == shapes.end()) shapes.push_back(shape);
  }
  return shapes;
}

}  // namespace signsplit::sim
