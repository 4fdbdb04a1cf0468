#include "tools/auto_plan.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "signsplit/auto.hpp"
#include "tools/prefill.hpp"
#include "tools/quantity_text.hpp"

namespace signsplit::tools {
namespace {

/// Seconds of one call of oneDNN's matrix products.
Result<double> time_prefill(const Weights& weights, std::span<const float> x, index_t batch, int threads) {
  constexpr int kRounds = 5;
  const std::unique_ptr<VendorFfn> ffn = prefill_ffn(weights, batch, threads);
  if (!ffn) return unsupported("oneDNN refuses");
  std::vector<float> y(x.size());
  std::vector<double> seconds;
  for (int round = 0; round <= kRounds; ++round) {
    const Result<double> one = ffn->timed_run(x, y);
    if (!one) return one;
    if (round > 0) seconds.push_back(*one);  // the first one is warm-up
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[kRounds / 2];
}

/// The fractions of active units that a row_fused run of these tokens has, on a GPU.
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

/// What the planner is asked, and how, for an executor, which must outlive the question.
struct ExecutorQuestion {
  sim::PlanRequest request;
  sim::PlannerOptions planner;
};
ExecutorQuestion question_for(const Problem& problem, const sim::Activity& activity, sim::Residency residency, const Executor& executor,
                              const cpu::Options& options) {
  ExecutorQuestion question;
  question.request = {.problem = problem, .activity = activity, .residency = residency, .launch_mode = executor.launch_mode()};
  question.planner.wisdom = sim::wisdom_path();
  question.planner.can_run = [problem, &executor](const Plan& plan) { return executor.can_run(plan, problem); };
  if (executor.device() != "cpu") return question;
  question.request.threads = options.threads;
  if (options.isa) question.request.isa = std::string(cpu::to_string(*options.isa));
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
  if (executor.device() == "cpu") {
    AutoOptions automatic{.cpu = options, .mode = mode, .hardware = executor.profile()};
    if (prefill && can_prefill(problem)) automatic.matrix_products = [&] { return time_prefill(weights, x, batch, options.threads); };
    return choose_plan(weights, x, batch, automatic);
  }
  if (mode == sim::PlanMode::measure) return unsupported("--planner measure is for the CPU (--device " + executor.device() + ")");
  const Result<sim::Machine> machine = sim::find_machine(executor.profile());
  if (!machine) return machine.status();
  const Result<sim::Activity> activity = activity_of(weights, x, batch, executor);
  if (!activity) return activity.status();
  const ExecutorQuestion question = question_for(problem, *activity, sim::Residency::cold, executor, options);
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
