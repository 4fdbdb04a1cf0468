// signsplit predict: what every schedule would take, without running any.
#include <algorithm>
#include <memory>
#include <vector>

#include "tools/auto_plan.hpp"
#include "tools/command.hpp"
#include "tools/host_profile.hpp"
#include "tools/json_output.hpp"
#include "tools/prediction_json.hpp"
#include "tools/quantity_text.hpp"
#include "tools/question.hpp"

namespace signsplit::tools {
namespace {

void print_decision(const sim::Decision& decision, const Context& context) {
  context.print("\n{}: ", sim::to_string(decision.verdict));
  if (decision.verdict == sim::Verdict::too_close) {
    context.print("{} and {} differ by {}, which is within ±{}\n", decision.winner, decision.loser,
                  time_text(decision.gap_s), time_text(decision.uncertainty_s));
  } else {
    context.print("{} beats {} by {} (± {})\n", decision.winner, decision.loser, time_text(decision.gap_s),
                  time_text(decision.uncertainty_s));
  }
}

void print_table(const Question& question, std::vector<PredictedPlan> cases, const Context& context) {
  const int threads = question.threads > 0 ? question.threads : question.machine.threads;
  const bool gpu = question.machine.kind == "gpu";
  context.print("{}, {} active, {} weights\non {} ({}), {} {}(s){}\n\n", describe(question.choice.problem),
                percent_text(question.choice.active), to_string(question.residency), question.machine.name,
                question.machine.title, threads, gpu ? "block" : "thread",
                gpu ? fmt::format(", launched by {}", sim::to_string(question.launch_mode)) : "");
  std::stable_sort(cases.begin(), cases.end(), [](const PredictedPlan& a, const PredictedPlan& b) {
    return a.prediction.time_s < b.prediction.time_s;
  });
  context.print("{:<34} {:>10}  {:^23} {:>10} {:>10}\n", "schedule", "time", "90 % interval", "weights", "reads at");
  for (const PredictedPlan& one : cases) {
    const sim::Prediction& p = one.prediction;
    const auto read = static_cast<double>(weight_bytes(p.bytes));
    context.print("{:<34} {:>10}  {:>10} – {:<10} {:>10} {:>10}\n", label(one.plan()), time_text(p.time_s),
                  time_text(p.low_s), time_text(p.high_s), bytes_text(read), rate_text(read / p.time_s));
  }
}

Result<ExitCode> predict(const QuestionOptions& options, const Context& context) {
  const Result<Question> question = resolve(options);
  if (!question) return question.status();
  const Result<std::vector<PredictedPlan>> cases = predict_all(*question);
  if (!cases) return cases.status();
  const std::optional<sim::Decision> decision = decide_among(*cases, question->machine);
  const Result<sim::ChosenPlan> chosen = plan_for_question(*question);
  if (!chosen) return chosen.status();
  if (options.hardware == "host") note_uncalibrated_host(context);
  print_table(*question, *cases, context);
  if (decision) print_decision(*decision, context);
  context.print("{}\n", chosen_text(*chosen));

  Json list = Json::array();
  for (const PredictedPlan& one : *cases) list.push_back(prediction_json(one.plan(), one.prediction));
  const Json document{{"cases", std::move(list)}, {"decision", decision_json(decision)}, {"auto", chosen_json(*chosen)}};
  if (const Status status = write_json(context, document); !status) return status;
  return ExitCode::done;
}

}  // namespace

void add_predict(CLI::App& app, Context& context) {
  auto options = std::make_shared<QuestionOptions>();
  CLI::App& command = add_command(
      app, "predict", "Predict the time of every schedule on a machine, and which one to use",
      "Times are per call (one step of decoding). The interval is meant to hold 90 % of measured medians. The decision\n"
      "compares the best fused schedule with the best unfused one: fuse, keep unfused, or too close to call.\n"
      "\n"
      "Examples:\n"
      "  signsplit predict --shape 2048x8192 --dtype bf16\n"
      "  signsplit predict --model opt-1.3b --hardware host --threads 1 --active 0.05\n"
      "  signsplit predict --model opt-6.7b --hardware h200 --launch stream\n"
      "  signsplit predict --shape 512x2048 --activity activity.json\n"
      "  signsplit predict --shape 4096x14336 --gated --batch 4 --json - --hardware my-machine.json");
  add_question_options(command, *options);
  add_json_option(command, context);
  on_run(command, context, [options, &context] { return predict(*options, context); });
}

}  // namespace signsplit::tools
