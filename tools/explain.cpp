// signsplit explain: why one schedule is predicted to beat another, and what would have to be different to turn it round.
#include "signsplit/sim/explain.hpp"

#include <cmath>
#include <memory>
#include <span>

#include "tools/auto_plan.hpp"
#include "tools/command.hpp"
#include "tools/host_profile.hpp"
#include "tools/json_output.hpp"
#include "tools/quantity_text.hpp"
#include "tools/question.hpp"

namespace signsplit::tools {
namespace {

/// The fastest of the fused, or of the unfused, cases.
const PredictedPlan* fastest(const std::vector<PredictedPlan>& cases, bool fused) {
  const PredictedPlan* best = nullptr;
  for (const PredictedPlan& one : cases) {
    if (is_fused(one.plan()) != fused || one.plan().variant == Variant::ignore) continue;
    if (best == nullptr || one.prediction.time_s < best->prediction.time_s) best = &one;
  }
  return best;
}

/// The case with a label, of the right kind, or an error that lists what there is.
Result<const PredictedPlan*> find_case(const std::vector<PredictedPlan>& cases, bool fused, const std::string& name) {
  const std::string option = fused ? "--fused" : "--unfused";
  if (name.empty()) {
    const PredictedPlan* best = fastest(cases, fused);
    return best != nullptr ? Result<const PredictedPlan*>(best) : invalid_argument(option + ": the profile answers for no such schedule");
  }
  std::string known;
  for (const PredictedPlan& one : cases) {
    if (is_fused(one.plan()) != fused) continue;
    if (label(one.plan()) == name) return &one;
    known += (known.empty() ? "" : ", ") + label(one.plan());
  }
  return invalid_argument(fmt::format("{} '{}' is not known; known are {}", option, name, known));
}

std::string signed_time(double seconds) { return seconds == 0.0 ? "0" : (seconds < 0 ? "-" : "+") + time_text(std::abs(seconds)); }

/// A value of a profile with its unit, for people.
std::string value_text(double value, const std::string& unit) {
  if (unit == "s") return time_text(value);
  if (unit == "B/s") return rate_text(value);
  return unit == "1" ? fmt::format("{:.4g}", value) : fmt::format("{:.4g} {}", value, unit);
}

void print_terms(const sim::Explanation& e, const Context& context) {
  const auto fused = e.fused.prediction.terms.named(), unfused = e.unfused.prediction.terms.named();
  context.print("{:<14} {:>34} {:>34} {:>12}\n", "", e.fused.label, e.unfused.label, "difference");
  for (std::size_t i = 0; i < fused.size(); ++i) {
    context.print("{:<14} {:>34} {:>34} {:>12}\n", fused[i].first, time_text(fused[i].second), time_text(unfused[i].second),
                  signed_time(unfused[i].second - fused[i].second));
  }
  context.print("{:<14} {:>34} {:>34} {:>12}\n\n", "sum", time_text(e.fused.prediction.time_s), time_text(e.unfused.prediction.time_s),
                signed_time(e.unfused.prediction.time_s - e.fused.prediction.time_s));
}

void print_flips(const sim::Explanation& e, const Context& context) {
  if (e.flips.empty()) {
    context.print("no single parameter turns the order round between 1/1024 and 1024 times its value\n");
    return;
  }
  context.print("The order turns round where one of these, alone, has another value:\n{:<28} {:>16} {:>16} {:>10}\n", "parameter",
                "now", "turns at", "factor");
  for (const sim::Flip& flip : e.flips) {
    context.print("{:<28} {:>16} {:>16} {:>10.3g}\n", flip.parameter, value_text(flip.now, flip.unit),
                  value_text(flip.value, flip.unit), flip.factor);
  }
}

/// Names with commas between, in indented lines of some 100 columns.
void print_names(std::span<const std::string> names, const Context& context) {
  std::string line;
  for (const std::string& name : names) {
    if (line.size() + name.size() > 100) {
      context.print("  {},\n", line);
      line.clear();
    }
    line += (line.empty() ? "" : ", ") + name;
  }
  context.print("  {}\n", line);
}

/// Those whose value is of no consequence. There are dozens that the gap does not depend on: a number for people, their names in JSON.
void print_indifferent(const sim::Explanation& e, const Context& context) {
  if (!e.no_flip.empty()) {
    context.print("\nThese change the gap, but none of them, alone, turns the order round (1/1024 to 1024 times its value):\n");
    print_names(e.no_flip, context);
  }
  if (!e.unused.empty()) context.print("{} other parameters do not matter here (--json lists them).\n", e.unused.size());
}

void print(const Question& question, const sim::Explanation& e, const Context& context) {
  context.print("{}, {} active, {} weights, on {}\n{}: {} before {} by {} (± {})\n\n", describe(question.choice.problem),
                percent_text(question.choice.active), to_string(question.residency), question.machine.name,
                sim::to_string(e.decision.verdict), e.decision.winner, e.decision.loser, time_text(e.decision.gap_s),
                time_text(e.decision.uncertainty_s));
  print_terms(e, context);
  print_flips(e, context);
  print_indifferent(e, context);
}

struct ExplainOptions {
  QuestionOptions question;
  std::string fused, unfused;
};

Result<ExitCode> explain(const ExplainOptions& options, const Context& context) {
  const Result<Question> question = resolve(options.question);
  if (!question) return question.status();
  const Result<std::vector<PredictedPlan>> cases = predict_all(*question);
  if (!cases) return cases.status();
  const Result<const PredictedPlan*> fused = find_case(*cases, true, options.fused);
  if (!fused) return fused.status();
  const Result<const PredictedPlan*> unfused = find_case(*cases, false, options.unfused);
  if (!unfused) return unfused.status();
  const Result<sim::Explanation> explanation = sim::explain((*fused)->scenario, (*unfused)->scenario, question->machine);
  if (!explanation) return explanation.status();
  if (options.question.hardware == "host") note_uncalibrated_host(context);
  const Result<sim::ChosenPlan> chosen = plan_for_question(*question);
  if (!chosen) return chosen.status();
  print(*question, *explanation, context);
  context.print("\n{}\n", chosen_text(*chosen));
  Json document = Json::parse(sim::to_json(*explanation));
  document["auto"] = chosen_json(*chosen);
  if (const Status status = write_json(context, document); !status) return status;
  return ExitCode::done;
}

}  // namespace

void add_explain(CLI::App& app, Context& context) {
  auto options = std::make_shared<ExplainOptions>();
  CLI::App& command = add_command(
      app, "explain", "Say term by term why a schedule wins, and which number of the machine would turn it round",
      "Compares the best fused with the best unfused schedule, or two that are named. The terms of each add up to its time;\n"
      "the flips say at which value of one parameter, all others unchanged, both would take equally long.\n"
      "\n"
      "Examples:\n"
      "  signsplit explain --shape 512x2048 --residency warm\n"
      "  signsplit explain --model opt-6.7b --hardware epyc-turin-9355p --unfused-launch region_per_phase\n"
      "  signsplit explain --shape 2048x8192 --fused sign_split/interim/selective --unfused unfused --json -");
  add_question_options(command, options->question);
  command.add_option("--fused", options->fused, "A fused schedule by its name in `predict`; default: the fastest")
      ->type_name("NAME")
      ->group("The schedule");
  command.add_option("--unfused", options->unfused, "An unfused schedule; default: the fastest")->type_name("NAME")->group("The schedule");
  add_json_option(command, context);
  on_run(command, context, [options, &context] { return explain(*options, context); });
}

}  // namespace signsplit::tools
