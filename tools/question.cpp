#include "tools/question.hpp"

#include <fmt/format.h>

namespace signsplit::tools {

void add_unfused_launch_option(CLI::App& command, std::string& launch) {
  command
      .add_option("--unfused-launch", launch,
                  "How the unfused schedule starts its phases: one_region (barriers) or region_per_phase (a fork and join each, "
                  "as two library calls would)")
      ->type_name("L")
      ->capture_default_str()
      ->group("The schedule");
}

Result<Launch> parse_unfused_launch(const std::string& text) {
  const std::optional<Launch> launch = parse_launch(text);
  if (!launch) {
    return invalid_argument(fmt::format("--unfused-launch '{}' is not known; known are one_region, region_per_phase", text));
  }
  return *launch;
}

void add_launch_mode_option(CLI::App& command, std::string& mode) {
  command.add_option("--launch", mode, "How kernels are started on a GPU: stream, graph, programmatic, cooperative")
      ->type_name("MODE")
      ->capture_default_str()
      ->group("The machine");
}

Result<sim::LaunchMode> parse_launch_mode_option(const std::string& text) {
  const std::optional<sim::LaunchMode> mode = sim::parse_launch_mode(text);
  if (!mode) return invalid_argument(fmt::format("--launch '{}' is not known; known are stream, graph, programmatic, cooperative", text));
  return *mode;
}

void add_question_options(CLI::App& command, QuestionOptions& options) {
  command
      .add_option("--hardware", options.hardware,
                  "host (this machine, see `signsplit calibrate`), a name of `signsplit hardware`, or a profile (.json)")
      ->type_name("NAME|FILE|host")
      ->capture_default_str()
      ->group("The machine");
  add_problem_options(command, options.problem);
  add_activity_option(command, options.activity);
  add_cpu_options(command, options.cpu);
  add_residency_option(command, options.residency);
  add_unfused_launch_option(command, options.unfused_launch);
  add_launch_mode_option(command, options.launch);
}

Result<Question> resolve(const QuestionOptions& options) {
  Result<ProblemChoice> choice = resolve(options.problem);
  if (!choice) return choice.status();
  ActivitySource activity{.active = choice->active};
  if (!options.activity.empty()) {
    if (!options.problem.active.empty()) return invalid_argument("--activity and --active exclude each other");
    Result<ActivitySource> read = read_activity(options.activity);
    if (!read) return read.status();
    if (const Status status = read->fits(choice->problem); !status) return invalid_argument(options.activity + ": " + status.message());
    activity = std::move(*read);
    choice->active = activity.active;
  }
  const Result<sim::Residency> residency = parse_residency(options.residency);
  if (!residency) return residency.status();
  const Result<Launch> launch = parse_unfused_launch(options.unfused_launch);
  if (!launch) return launch.status();
  const Result<sim::LaunchMode> mode = parse_launch_mode_option(options.launch);
  if (!mode) return mode.status();
  const Result<int> threads = parse_threads(options.cpu.threads);
  if (!threads) return threads.status();
  const Result<std::optional<cpu::Isa>> isa = parse_isa_option(options.cpu.isa);
  if (!isa) return isa.status();
  Result<sim::Machine> machine = sim::find_machine(options.hardware);
  if (!machine) return machine.status();
  return Question{*choice, std::move(*machine), *residency, *launch, *mode, *threads,
                  isa->has_value() ? std::string(cpu::to_string(**isa)) : std::string(), std::move(activity)};
}

sim::Scenario Question::scenario(Plan plan) const {
  plan = sim::plan_on(machine, choice.problem, plan);
  if (!is_fused(plan)) plan.launch = unfused_launch;
  return {choice.problem, plan, activity.of(plan, choice.problem), residency, threads, isa, launch_mode};
}

Result<std::vector<PredictedPlan>> predict_all(const Question& question) {
  std::vector<PredictedPlan> cases;
  Status first_failure;
  for (const Plan& plan : default_plans(question.choice.problem)) {
    const sim::Scenario scenario = question.scenario(plan);
    const Result<sim::Prediction> prediction = sim::predict(scenario, question.machine);
    if (prediction) {
      cases.push_back({scenario, *prediction});
    } else if (first_failure.ok()) {
      first_failure = prediction.status();
    }
  }
  if (cases.empty() && !first_failure.ok()) return first_failure;
  return cases;
}

std::optional<sim::Decision> decide_among(const std::vector<PredictedPlan>& cases, const sim::Machine& machine) {
  std::vector<sim::LabelledPrediction> labelled;
  for (const PredictedPlan& one : cases) {
    if (one.plan().variant == Variant::ignore) continue;
    labelled.push_back({label(one.plan()), is_fused(one.plan()), one.prediction});
  }
  return sim::decide(labelled, machine);
}

}  // namespace signsplit::tools
