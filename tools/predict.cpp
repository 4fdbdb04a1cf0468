// signsplit predict: what every schedule would take, without running any.
#include <algorithm>
#include <memory>
#include <vector>

#include "signsplit/sim/predict.hpp"
#include "tools/command.hpp"
#include "tools/cpu_options.hpp"
#include "tools/host_profile.hpp"
#include "tools/json_output.hpp"
#include "tools/prediction_json.hpp"
#include "tools/problem_options.hpp"
#include "tools/quantity_text.hpp"

namespace signsplit::tools {
namespace {

struct PredictOptions {
  std::string hardware = "host", residency = "cold", launch = "graph";
  ProblemOptions problem;
  CpuOptions cpu;
};

struct Case {
  Plan plan;
  sim::Prediction prediction;
};

struct Question {
  ProblemChoice choice;
  sim::Machine machine;
  sim::Residency residency = sim::Residency::cold;
  int threads = 0;
  std::string isa;
  sim::LaunchMode launch = sim::LaunchMode::graph;
};

Result<Question> resolve_question(const PredictOptions& options) {
  const Result<ProblemChoice> choice = resolve(options.problem);
  if (!choice) return choice.status();
  const Result<sim::Residency> residency = parse_residency(options.residency);
  if (!residency) return residency.status();
  const Result<int> threads = parse_threads(options.cpu.threads);
  if (!threads) return threads.status();
  const Result<std::optional<cpu::Isa>> isa = parse_isa_option(options.cpu.isa);
  if (!isa) return isa.status();
  const std::optional<sim::LaunchMode> launch = sim::parse_launch_mode(options.launch);
  if (!launch) {
    return invalid_argument(fmt::format("--launch '{}' is not known; known are stream, graph, programmatic, cooperative", options.launch));
  }
  Result<sim::Machine> machine = sim::find_machine(options.hardware);
  if (!machine) return machine.status();
  return Question{*choice, std::move(*machine), *residency, *threads,
                  isa->has_value() ? std::string(cpu::to_string(**isa)) : std::string(), *launch};
}

/// Every default schedule that the machine's profile can answer for; the first reason why not, when it can for none.
Result<std::vector<Case>> predict_all(const Question& question) {
  const Problem& problem = question.choice.problem;
  std::vector<Case> cases;
  Status first_failure;
  for (const Plan& standard : default_plans(problem)) {
    const Plan plan = sim::plan_on(question.machine, problem, standard);
    const sim::Scenario scenario{problem, plan, sim::expected_activity(question.choice.active, plan, problem),
                                 question.residency, question.threads, question.isa, question.launch};
    const Result<sim::Prediction> prediction = sim::predict(scenario, question.machine);
    if (prediction) {
      cases.push_back({plan, *prediction});
    } else if (first_failure.ok()) {
      first_failure = prediction.status();
    }
  }
  if (cases.empty() && !first_failure.ok()) return first_failure;
  return cases;
}

/// Best fused against best unfused. `ignore` computes something else, and takes no part.
std::optional<sim::Decision> decide_among(const std::vector<Case>& cases, const sim::Machine& machine) {
  std::vector<sim::LabelledPrediction> labelled;
  for (const Case& one : cases) {
    if (one.plan.variant == Variant::ignore) continue;
    labelled.push_back({label(one.plan), is_fused(one.plan), one.prediction});
  }
  return sim::decide(labelled, machine);
}

void print_table(const Question& question, std::vector<Case> cases, const std::optional<sim::Decision>& decision,
                 const Context& context) {
  const int threads = question.threads > 0 ? question.threads : question.machine.threads;
  const bool gpu = question.machine.kind == "gpu";
  context.print("{}, {} active, {} weights\non {} ({}), {} {}(s){}\n\n", describe(question.choice.problem),
                percent_text(question.choice.active), to_string(question.residency), question.machine.name,
                question.machine.title, threads, gpu ? "block" : "thread",
                gpu ? fmt::format(", launched by {}", sim::to_string(question.launch)) : "");
  std::stable_sort(cases.begin(), cases.end(), [](const Case& a, const Case& b) {
    return a.prediction.time_s < b.prediction.time_s;
  });
  context.print("{:<34} {:>10}  {:^23} {:>10} {:>10}\n", "schedule", "time", "90 % interval", "weights", "reads at");
  for (const Case& one : cases) {
    const sim::Prediction& p = one.prediction;
    const auto read = static_cast<double>(weight_bytes(p.bytes));
    context.print("{:<34} {:>10}  {:>10} – {:<10} {:>10} {:>10}\n", label(one.plan), time_text(p.time_s),
                  time_text(p.low_s), time_text(p.high_s), bytes_text(read), rate_text(read / p.time_s));
  }
  if (!decision) return;
  context.print("\n{}: ", sim::to_string(decision->verdict));
  if (decision->verdict == sim::Verdict::too_close) {
    context.print("{} and {} differ by {}, which is within ±{}\n", decision->winner, decision->loser,
                  time_text(decision->gap_s), time_text(decision->uncertainty_s));
  } else {
    context.print("{} beats {} by {} (± {})\n", decision->winner, decision->loser, time_text(decision->gap_s),
                  time_text(decision->uncertainty_s));
  }
}

Result<ExitCode> predict(const PredictOptions& options, const Context& context) {
  const Result<Question> question = resolve_question(options);
  if (!question) return question.status();
  const Result<std::vector<Case>> cases = predict_all(*question);
  if (!cases) return cases.status();
  const std::optional<sim::Decision> decision = decide_among(*cases, question->machine);
  if (options.hardware == "host") note_uncalibrated_host(context);
  print_table(*question, *cases, decision, context);

  Json list = Json::array();
  for (const Case& one : *cases) list.push_back(prediction_json(one.plan, one.prediction));
  if (const Status status = write_json(context, {{"cases", std::move(list)}, {"decision", decision_json(decision)}}); !status) {
    return status;
  }
  return ExitCode::done;
}

}  // namespace

void add_predict(CLI::App& app, Context& context) {
  auto options = std::make_shared<PredictOptions>();
  CLI::App& command = add_command(
      app, "predict", "Predict the time of every schedule on a machine, and which one to use",
      "Times are per call (one step of decoding). The interval is meant to hold 90 % of measured medians. The decision\n"
      "compares the best fused schedule with the best unfused one: fuse, keep unfused, or too close to call.\n"
      "\n"
      "Examples:\n"
      "  signsplit predict --shape 2048x8192 --dtype bf16\n"
      "  signsplit predict --model opt-1.3b --hardware host --threads 1 --active 0.05\n"
      "  signsplit predict --model opt-6.7b --hardware h200 --launch stream\n"
      "  signsplit predict --shape 4096x14336 --gated --batch 4 --json - --hardware my-machine.json");
  command
      .add_option("--hardware", options->hardware,
                  "host (this machine, see `signsplit calibrate`), a name of `signsplit hardware`, or a profile (.json)")
      ->type_name("NAME|FILE|host")
      ->capture_default_str()
      ->group("The machine");
  add_problem_options(command, options->problem);
  add_cpu_options(command, options->cpu);
  add_residency_option(command, options->residency);
  command.add_option("--launch", options->launch, "How kernels are started on a GPU: stream, graph, programmatic, cooperative")
      ->type_name("MODE")
      ->capture_default_str()
      ->group("The machine");
  add_json_option(command, context);
  on_run(command, context, [options, &context] { return predict(*options, context); });
}

}  // namespace signsplit::tools
