#include <algorithm>
#include <chrono>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "signsplit/auto.hpp"

namespace signsplit {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kTimingBudget_s = 1.0;
constexpr int kMinRounds = 3;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double median(std::vector<double> seconds) {
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

/// Times plans in turns on one layer. A plan that cannot run has no time.
Result<std::vector<double>> time_plans(std::span<const Plan> plans, const Weights& weights, std::span<const float> x, index_t batch,
                                       const cpu::Options& options) {
  std::vector<std::optional<cpu::Ffn>> ffns;
  for (const Plan& plan : plans) {
    Result<cpu::Ffn> ffn = cpu::Ffn::create(weights, plan, batch, options);
    ffns.push_back(ffn ? std::optional<cpu::Ffn>(std::move(*ffn)) : std::nullopt);
  }
  std::vector<float> y(x.size());
  std::vector<std::vector<double>> seconds(plans.size());
  const auto start = Clock::now();
  for (int round = 0; round <= kMinRounds || seconds_since(start) < kTimingBudget_s; ++round) {
    for (std::size_t i = 0; i < ffns.size(); ++i) {
      if (!ffns[i]) continue;
      const auto before = Clock::now();
      if (const Status status = ffns[i]->run(x, y); !status) return status;
      if (round > 0) seconds[i].push_back(seconds_since(before));  // the first round is warm-up
    }
  }
  std::vector<double> medians;
  for (const auto& one : seconds) medians.push_back(one.empty() ? 0.0 : median(one));
  return medians;
}

/// Which fraction of the units is open for a token of x, and for any.
Result<sim::Activity> activity_of(const Weights& weights, std::span<const float> x, index_t batch, const cpu::Options& options) {
  const Problem problem = weights.problem(batch);
  const bool integers = problem.arithmetic == Arithmetic::w8a8;  // row_fused does not run it
  const Plan plan = default_plan(problem, integers ? Strategy::unfused : Strategy::row_fused);
  Result<cpu::Ffn> ffn = cpu::Ffn::create(weights, plan, batch, options);
  if (!ffn) return ffn.status();
  std::vector<float> y(x.size());
  if (const Status status = ffn->run(x, y); !status) return status;
  const sim::Activity seen = sim::activity_from(ffn->report().statistics, plan, problem);
  return sim::Activity{.active = seen.active, .active_union = seen.active_union};
}

}  // namespace

Result<sim::ChosenPlan> choose_plan(const Weights& weights, std::span<const float> x, index_t batch, const AutoOptions& options) {
  try {
    const Problem problem = weights.problem(batch);
    if (Status status = validate(problem); !status) return status;
    const Result<sim::Machine> machine = sim::find_machine(options.hardware);
    if (!machine) return machine.status();
    const Result<sim::Activity> activity = activity_of(weights, x, batch, options.cpu);
    if (!activity) return activity.status();
    sim::PlanRequest request{problem, *activity, options.residency, options.cpu.threads};
    if (options.cpu.isa) request.isa = std::string(cpu::to_string(*options.cpu.isa));
    sim::PlannerOptions planner;
    planner.mode = options.mode;
    planner.wisdom = options.wisdom;
    planner.can_run = [&](const Plan& plan) { return cpu::can_run(plan, problem, options.cpu); };
    planner.timer = [&](const sim::PlanRequest&, std::span<const Plan> plans) { return time_plans(plans, weights, x, batch, options.cpu); };
    planner.gemm = static_cast<bool>(options.matrix_products);
    if (planner.gemm) planner.gemm_timer = [&](const sim::PlanRequest&) { return options.matrix_products(); };
    return sim::plan_for(request, *machine, planner);
  } catch (const std::bad_alloc&) {
    return io_error("choose_plan: not enough memory");
  }
}

}  // namespace signsplit
