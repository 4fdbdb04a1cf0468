#include "signsplit/sim/planner.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "gpu_machine.hpp"
#include "wisdom.hpp"

namespace signsplit::sim {
namespace {

constexpr index_t kHiddenTiles[] = {32, 64, 256, 512};
/// A measured choice is among the candidates predicted within this factor of the best, and at most so many.
constexpr double kWorthMeasuring = 1.3;
constexpr std::size_t kMostMeasured = 8;
/// Differences below this are noise: they do not make a plan leave its default tiles.
constexpr double kWorthLeavingDefault = 0.99;
/// What the bits of a plan are worth: matrix products that take less than this share of its time replace it.
constexpr double kWorthTheBits = 0.85;

bool is_default(const Plan& plan, const Problem& problem) {
  return plan.hidden_tile == default_plan(problem, plan.strategy, plan.skip).hidden_tile;
}

double time_of(const RankedPlan& ranked) { return ranked.measured_s > 0.0 ? ranked.measured_s : ranked.prediction.time_s; }

/// Best first. Plans with tiles of their own pay 1 %: among equals the default comes first.
void rank(std::vector<RankedPlan>& plans, const Problem& problem) {
  const auto cost = [&](const RankedPlan& ranked) {
    return time_of(ranked) * (is_default(ranked.plan, problem) ? kWorthLeavingDefault : 1.0);
  };
  std::stable_sort(plans.begin(), plans.end(), [&](const RankedPlan& a, const RankedPlan& b) { return cost(a) < cost(b); });
}

Result<std::vector<RankedPlan>> predict_candidates(const PlanRequest& request, const Machine& machine, const PlannerOptions& options) {
  const Activity shared{.active = request.activity.active, .active_union = request.activity.active_union};
  std::vector<RankedPlan> ranked;
  Status failure;
  for (const Plan& candidate : candidate_plans(request.problem)) {
    const Plan plan = plan_on(machine, request.problem, candidate);
    if (plan.placement == Placement::residual && is_gpu(machine)) continue;  // which restores nothing
    if (options.can_run) {
      if (const Status status = options.can_run(plan); !status.ok()) {
        if (failure.ok()) failure = status;
        continue;
      }
    }
    const Activity activity = request.activity_of ? request.activity_of(plan) : shared;
    const Result<Prediction> prediction =
        predict({request.problem, plan, activity, request.residency, request.threads, request.isa, request.launch_mode}, machine);
    if (prediction.ok()) {
      ranked.push_back({plan, *prediction, 0.0});
    } else if (failure.ok()) {
      failure = prediction.status();
    }
  }
  if (ranked.empty()) return failure.ok() ? invalid_argument("no plan is valid for " + describe(request.problem)) : failure;
  rank(ranked, request.problem);
  return ranked;
}

/// Times the front of the list and puts the measured ones, best first, before the others.
Status measure_front(std::vector<RankedPlan>& ranked, const PlanRequest& request, const PlanTimer& timer) {
  if (!timer) return invalid_argument("plan_for: measure needs a timer");
  std::size_t count = 1;
  while (count < std::min(ranked.size(), kMostMeasured) &&
         ranked[count].prediction.time_s <= kWorthMeasuring * ranked.front().prediction.time_s) {
    ++count;
  }
  std::vector<Plan> plans;
  for (std::size_t i = 0; i < count; ++i) plans.push_back(ranked[i].plan);
  const Result<std::vector<double>> seconds = timer(request, plans);
  if (!seconds.ok()) return seconds.status();
  if (seconds->size() != count) return invalid_argument("plan_for: the timer must answer for every plan");
  std::vector<RankedPlan> measured, rest(ranked.begin() + static_cast<std::ptrdiff_t>(count), ranked.end());
  for (std::size_t i = 0; i < count; ++i) {
    ranked[i].measured_s = (*seconds)[i];
    (ranked[i].measured_s > 0.0 ? measured : rest).push_back(ranked[i]);
  }
  if (measured.empty()) return invalid_argument("plan_for: none of the candidates could be timed");
  rank(measured, request.problem);
  measured.insert(measured.end(), rest.begin(), rest.end());
  ranked = std::move(measured);
  return {};
}

bool gemm_is_candidate(const PlanRequest& request, const Machine& machine, const PlannerOptions& options) {
  return options.gemm && request.problem.batch > kMostDecodeTokens && request.problem.arithmetic == Arithmetic::f32 && machine.kind != "gpu";
}

/// Whether a vendor's matrix products replace the chosen plan.
Status weigh_gemm(ChosenPlan& chosen, const PlanRequest& request, const Machine& machine, const PlannerOptions& options) {
  const bool measured = options.mode == PlanMode::measure && options.gemm_timer;
  const Result<double> seconds = measured ? options.gemm_timer(request) : gemm_time_s(request, machine);
  if (!seconds.ok()) return measured ? Status{} : seconds.status();  // a vendor that refuses is no candidate
  chosen.gemm_s = *seconds;
  chosen.gemm = chosen.gemm_s < kWorthTheBits * chosen.time_s;
  return {};
}

}  // namespace

std::string_view to_string(PlanMode mode) noexcept { return mode == PlanMode::measure ? "measure" : "estimate"; }

std::optional<PlanMode> parse_plan_mode(std::string_view text) noexcept {
  for (const PlanMode mode : {PlanMode::estimate, PlanMode::measure}) {
    if (text == to_string(mode)) return mode;
  }
  return std::nullopt;
}

std::string_view to_string(ChosenPlan::Source source) noexcept {
  switch (source) {
    case ChosenPlan::Source::estimated: return "estimated";
    case ChosenPlan::Source::measured: return "measured";
    case ChosenPlan::Source::wisdom: return "wisdom";
  }
  return "estimated";
}

std::vector<Plan> lossless_default_plans(const Problem& problem) {
  std::vector<Plan> plans;
  for (const Strategy strategy : {Strategy::row_fused, Strategy::unfused, Strategy::certified}) {
    for (const bool skip : {true, false}) {
      if (strategy == Strategy::certified && !skip) continue;
      const Plan plan = default_plan(problem, strategy, skip);
      if (validate(plan, problem).ok()) plans.push_back(plan);
    }
  }
  return plans;
}

std::vector<Plan> candidate_plans(const Problem& problem) {
  std::vector<Plan> candidates = lossless_default_plans(problem), tiled;
  if (Plan restored = default_plan(problem, Strategy::certified); validate(restored, problem).ok()) {
    restored.placement = Placement::residual;
    if (validate(restored, problem).ok()) candidates.push_back(restored);
  }
  for (const Plan& plan : candidates) {
    for (const index_t tile : kHiddenTiles) {
      Plan other = plan;
      other.hidden_tile = tile;
      const bool fits = tile <= ceil_div(problem.d_ff, plan.parts) && tile != plan.hidden_tile;
      if (fits && validate(other, problem).ok()) tiled.push_back(other);
    }
  }
  candidates.insert(candidates.end(), tiled.begin(), tiled.end());
  return candidates;
}

Result<ChosenPlan> plan_for(const PlanRequest& request, const Machine& machine, const PlannerOptions& options) {
  try {
    if (Status status = validate(request.problem); !status.ok()) return status;
    const bool gemm = gemm_is_candidate(request, machine, options);
    const std::string key = wisdom_key(request, machine) + (gemm ? ", or matrix products" : "");
    if (!options.wisdom.empty()) {
      const auto known = find_wisdom(options.wisdom, key, request.problem);
      if (!known.ok()) return known.status();
      const bool usable = known->has_value() && (!options.can_run || options.can_run((*known)->plan).ok());
      if (usable) {
        const WisdomEntry& entry = **known;
        return ChosenPlan{entry.plan, ChosenPlan::Source::wisdom, entry.time_s, entry.gemm, entry.gemm_s, {}};
      }
    }
    Result<std::vector<RankedPlan>> ranked = predict_candidates(request, machine, options);
    if (!ranked.ok()) return ranked.status();
    ChosenPlan chosen;
    if (options.mode == PlanMode::measure) {
      if (Status status = measure_front(*ranked, request, options.timer); !status.ok()) return status;
      chosen.source = ChosenPlan::Source::measured;
    }
    chosen.plan = ranked->front().plan;
    chosen.time_s = time_of(ranked->front());
    chosen.considered = std::move(*ranked);
    if (gemm) {
      if (Status status = weigh_gemm(chosen, request, machine, options); !status.ok()) return status;
    }
    if (options.mode == PlanMode::measure && !options.wisdom.empty()) {
      if (Status status = remember(options.wisdom, key, {chosen.plan, chosen.time_s, chosen.gemm, chosen.gemm_s}); !status.ok()) return status;
    }
    return chosen;
  } catch (const std::exception& failure) {
    return io_error(std::string("plan_for: ") + failure.what());
  }
}

std::filesystem::path wisdom_path() {
  if (const char* value = std::getenv("SIGNSPLIT_WISDOM"); value != nullptr) return value;
  const std::filesystem::path profile = host_profile_path();
  return profile.empty() ? profile : profile.parent_path() / "wisdom.json";
}

}  // namespace signsplit::sim
