// signsplit trace: what every worker does and when, simulated and measured, for Perfetto or chrome://tracing.
#include <algorithm>
#include <memory>
#include <optional>

#include "signsplit/atomic_file.hpp"
#include "signsplit/sim/events.hpp"
#include "signsplit/synthetic.hpp"
#include "tools/auto_plan.hpp"
#include "tools/command.hpp"
#include "tools/host_profile.hpp"
#include "tools/json_output.hpp"
#include "tools/plan_options.hpp"
#include "tools/quantity_text.hpp"
#include "tools/question.hpp"

namespace signsplit::tools {
namespace {

struct TraceOptions {
  QuestionOptions question;
  PlanOptions plan;
  std::string output;
  bool simulated_only = false;
};

sim::Timeline timeline_of(const std::vector<cpu::TraceEvent>& events, int workers) {
  sim::Timeline timeline;
  timeline.workers = workers;
  for (const cpu::TraceEvent& event : events) {
    timeline.slices.push_back({sim::Slice::What::item, event.worker, event.phase, event.item, event.begin_s, event.end_s});
    timeline.time_s = std::max(timeline.time_s, event.end_s);
  }
  return timeline;
}

/// One traced call after untimed ones: warm on one layer, cold on the next of several copies that exceed the caches.
Result<sim::Timeline> measure_timeline(const Question& question, const Plan& plan, std::vector<std::uint8_t>& open_units) {
  const Problem& problem = question.choice.problem;
  Result<Weights> first = synthetic_weights(problem, question.choice.active, 1, question.threads);
  if (!first) return first.status();
  std::vector<Weights> layers;
  layers.push_back(std::move(*first));
  const double rotation = question.residency == sim::Residency::cold ? 256e6 : 0.0;
  while (static_cast<double>(layers.size()) * static_cast<double>(weight_bytes(problem)) < rotation || (rotation > 0 && layers.size() < 2)) {
    Result<Weights> copy = layers.front().clone();
    if (!copy) return copy.status();
    layers.push_back(std::move(*copy));
  }
  const std::vector<float> x = synthetic_input(problem.batch, problem.d_model, 2);
  std::vector<float> y(x.size());
  cpu::Options options{.threads = question.threads, .isa = cpu::parse_isa(question.isa)};
  Result<cpu::Ffn> ffn = cpu::Ffn::create(layers.front(), plan, problem.batch, options);
  if (!ffn) return ffn.status();
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(problem.batch * problem.d_ff));
  std::vector<cpu::TraceEvent> events;
  for (std::size_t call = 0; call <= layers.size() + 1; ++call) {
    const bool last = call == layers.size() + 1;
    if (const Status status = ffn->rebind(layers[call % layers.size()]); !status) return status;
    if (last) ffn->trace(&events);
    const Status status = call == 0 ? ffn->run(x, y, mask) : ffn->run(x, y);
    if (!status) return status;
  }
  open_units.assign(static_cast<std::size_t>(problem.d_ff), 0);
  for (std::size_t i = 0; i < mask.size(); ++i) open_units[i % open_units.size()] |= mask[i];
  return timeline_of(events, ffn->report().threads);
}

/// The plan that the options name; of auto the planner's.
Result<Plan> plan_of(const PlanOptions& options, const Question& question) {
  const Result<PlanChoice> choice = resolve(options, question.choice.problem);
  if (!choice) return choice.status();
  if (choice->kind == PlanChoice::Kind::plan) return choice->plan;
  if (choice->kind != PlanChoice::Kind::automatic) return invalid_argument("--strategy " + options.strategy + " is no plan: trace needs one");
  const Result<sim::ChosenPlan> chosen = plan_for_question(question);
  if (!chosen) return chosen.status();
  Plan plan = chosen->plan;
  if (choice->plan.skip) plan.skip = true;
  return plan;
}

Result<ExitCode> trace(const TraceOptions& options, const Context& context) {
  if (options.output.empty()) return invalid_argument("needs -o FILE, where the timelines go");
  if (const Status status = check_output(options.output, "--output"); !status) return status;
  Result<Question> question = resolve(options.question);
  if (!question) return question.status();
  const Result<Plan> plan = plan_of(options.plan, *question);
  if (!plan) return plan.status();
  const sim::Scenario scenario = question->scenario(*plan);

  std::vector<std::uint8_t> open_units = question->activity.open_units(question->choice.problem.batch);
  std::optional<sim::Timeline> measured;
  if (!options.simulated_only) {  // then those of the measured layer, so that both timelines are of the same rows
    if (question->activity.mask) return invalid_argument("--activity: a mask's layer is not at hand to be measured; add --simulated-only");
    if (question->threads == 0) question->threads = question->machine.threads;
    Result<sim::Timeline> timeline = measure_timeline(*question, scenario.plan, open_units);
    if (!timeline) return timeline.status();
    measured = std::move(*timeline);
  }
  const Result<sim::Timeline> simulated = sim::simulate(scenario, question->machine, open_units);
  if (!simulated) return simulated.status();
  if (options.question.hardware == "host") note_uncalibrated_host(context);

  std::vector<sim::NamedTimeline> timelines{{"simulated on " + question->machine.name, &*simulated}};
  if (measured) timelines.push_back({"measured", &*measured});
  if (const Status status = write_file(options.output, sim::trace_json(timelines)); !status) return status;
  context.print("{}, {}\nsimulated  {} ({} by the formula)\n", describe(scenario.problem), label(scenario.plan),
                time_text(simulated->time_s), time_text(sim::predict(scenario, question->machine)->time_s));
  if (measured) context.print("measured   {}, one call\n", time_text(measured->time_s));
  context.print("timelines  {}: open it in https://ui.perfetto.dev or chrome://tracing\n", options.output);
  Json document{{"simulated_s", simulated->time_s}, {"measured_s", measured ? Json(measured->time_s) : Json(nullptr)}, {"file", options.output}};
  if (const Status status = write_json(context, document); !status) return status;
  return ExitCode::done;
}

}  // namespace

void add_trace(CLI::App& app, Context& context) {
  auto options = std::make_shared<TraceOptions>();
  CLI::App& command = add_command(
      app, "trace", "Write what every worker does and when, simulated and measured side by side, for Perfetto",
      "The simulated timeline is that of the event-driven model, tile by tile, with the rows that the measured layer opened.\n"
      "The measured one has an entry for every part that a worker took.\n"
      "\n"
      "Examples:\n"
      "  signsplit trace --shape 2048x8192 --strategy unfused -o trace.json\n"
      "  signsplit trace --model opt-6.7b --hardware epyc-turin-9355p --simulated-only -o turin.json");
  add_question_options(command, options->question);
  add_plan_options(command, options->plan);
  command.add_option("-o,--output", options->output, "Where the timelines go, in Chrome's trace format")->type_name("FILE");
  command.add_flag("--simulated-only", options->simulated_only, "Run nothing: for machines that are not this one");
  add_json_option(command, context);
  on_run(command, context, [options, &context] { return trace(*options, context); });
}

}  // namespace signsplit::tools
