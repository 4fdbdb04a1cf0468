#include "tools/auto_plan.hpp"

#include <algorithm>
#include <chrono>

#include <fmt/format.h>

#include "tools/prefill.hpp"
#include "tools/quantity_text.hpp"

namespace signsplit::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kTimingBudget_s = 1.0, kPrefillBudget_s = 0.25;
constexpr int kMinRounds = 3;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double median(std::vector<double> seconds) {
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

/// Times plans in turns on one layer. A plan that cannot run has no time.
Result<std::vector<double>> time_plans(std::span<const Plan> plans, const Weights& weights, std::span<const float> x,
                                       index_t batch, const cpu::Options& options) {
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

Result<double> time_prefill(const Weights& weights, std::span<const float> x, index_t batch, int threads) {
  const std::unique_ptr<VendorFfn> ffn = prefill_ffn(weights, batch, threads);
  if (!ffn) return unsupported("oneDNN refuses");
  std::vector<float> y(x.size());
  std::vector<double> seconds;
  const auto start = Clock::now();
  for (int round = 0; round <= kMinRounds || seconds_since(start) < kPrefillBudget_s; ++round) {
    const Result<double> one = ffn->timed_run(x, y);
    if (!one) return one;
    if (round > 0) seconds.push_back(*one);
  }
  return median(std::move(seconds));
}

/// The fractions of active units that a row_fused run of these tokens has.
Result<sim::Activity> activity_of(const Weights& weights, std::span<const float> x, index_t batch, Executor& executor) {
  const Problem problem = weights.problem(batch);
  const auto layer = executor.load(weights);
  if (!layer) return layer.status();
  const auto ffn = executor.create(**layer, executor.suited(default_plan(problem, Strategy::row_fused), problem), batch);
  if (!ffn) return ffn.status();
  std::vector<float> y(x.size());
  if (const Status status = (*ffn)->run(x, y); !status) return status;
  const Statistics& seen = (*ffn)->statistics();
  const auto units = static_cast<double>(problem.d_ff);
  return sim::Activity{.active = static_cast<double>(seen.active) / (units * static_cast<double>(batch)),
                       .active_union = static_cast<double>(seen.active_union) / units};
}

/// What the planner is asked, and how, for an executor.
struct ExecutorQuestion {
  sim::PlanRequest request;
  sim::PlannerOptions planner;
};
ExecutorQuestion question_for(const Problem& problem, const sim::Activity& activity, sim::Residency residency, const Executor& executor,
                              const cpu::Options& options) {
  ExecutorQuestion question;
  question.request = {.problem = problem, .activity = activity, .residency = residency, .launch_mode = executor.launch_mode()};
  question.planner.wisdom = sim::wisdom_path();
  if (executor.device() != "cpu") return question;
  question.request.threads = options.threads;
  if (options.isa) question.request.isa = std::string(cpu::to_string(*options.isa));
  question.planner.can_run = [problem, options](const Plan& plan) { return cpu::can_run(plan, problem, options); };
  question.planner.gemm = can_prefill(problem);
  return question;
}

}  // namespace

Result<sim::ChosenPlan> plan_for_executor(const ProblemChoice& choice, sim::Residency residency, const Executor& executor,
                                          const cpu::Options& options) {
  const Result<sim::Machine> machine = sim::find_machine(executor.profile());
  if (!machine) return machine.status();
  const ExecutorQuestion question = question_for(choice.problem, {.active = choice.active}, residency, executor, options);
  return sim::plan_for(question.request, *machine, question.planner);
}

Result<sim::ChosenPlan> plan_for_question(const Question& question) {
  const Problem& problem = question.choice.problem;
  const sim::Activity shared = question.activity.of(default_plan(problem, Strategy::row_fused), problem);
  const sim::PlanRequest request{.problem = problem,
                                 .activity = {.active = shared.active, .active_union = shared.active_union},
                                 .residency = question.residency,
                                 .threads = question.threads,
                                 .isa = question.isa,
                                 .launch_mode = question.launch_mode,
                                 .activity_of = [&](const Plan& plan) { return question.activity.of(plan, problem); }};
  return sim::plan_for(request, question.machine, {.wisdom = sim::wisdom_path(), .gemm = can_prefill(problem)});
}

Result<sim::ChosenPlan> plan_for_layer(const Weights& weights, std::span<const float> x, index_t batch, Executor& executor,
                                       const cpu::Options& options, sim::PlanMode mode, bool prefill) {
  const Problem problem = weights.problem(batch);
  const bool on_cpu = executor.device() == "cpu";
  if (!on_cpu && mode == sim::PlanMode::measure) return unsupported("--planner measure is for the CPU (--device " + executor.device() + ")");
  const Result<sim::Machine> machine = sim::find_machine(executor.profile());
  if (!machine) return machine.status();
  const Result<sim::Activity> activity = activity_of(weights, x, batch, executor);
  if (!activity) return activity.status();
  ExecutorQuestion question = question_for(problem, *activity, sim::Residency::cold, executor, options);
  question.planner.mode = mode;
  question.planner.gemm = question.planner.gemm && prefill;
  if (on_cpu) {
    question.planner.gemm_timer = [&](const sim::PlanRequest&) { return time_prefill(weights, x, batch, options.threads); };
    question.planner.timer = [&](const sim::PlanRequest&, std::span<const Plan> plans) {
      return time_plans(plans, weights, x, batch, options);
    };
  }
  return sim::plan_for(question.request, *machine, question.planner);
}

std::string chosen_text(const sim::ChosenPlan& chosen, std::string_view verb) {
  if (chosen.gemm) {
    return fmt::format("auto {} matrix products of a vendor library, in f32 ({}; {} takes {}; {})", verb, time_text(chosen.gemm_s),
                       label(chosen.plan), time_text(chosen.time_s), sim::to_string(chosen.source));
  }
  return fmt::format("auto {} {}, hidden tile {} ({}, {})", verb, label(chosen.plan), chosen.plan.hidden_tile, time_text(chosen.time_s),
                     sim::to_string(chosen.source));
}

Json chosen_json(const sim::ChosenPlan& chosen) {
  return Json::parse(sim::to_json(chosen));
}

void add_planner_option(CLI::App& command, std::string& mode) {
  command
      .add_option("--planner", mode,
                  "How auto chooses: estimate (the simulator; what was measured before is remembered), measure (times the best "
                  "few, and remembers the answer)")
      ->type_name("MODE")
      ->capture_default_str()
      ->group("The schedule");
}

Result<sim::PlanMode> parse_planner(const std::string& text) {
  const std::optional<sim::PlanMode> mode = sim::parse_plan_mode(text);
  if (!mode) return invalid_argument(fmt::format("--planner '{}' is not known; known are estimate, measure", text));
  return *mode;
}

}  // namespace signsplit::tools
