// signsplit layer: FFN against attention over context length.
#include <algorithm>
#include <memory>
#include <vector>

#include "signsplit/sim/layer.hpp"
#include "tools/command.hpp"
#include "tools/cpu_options.hpp"
#include "tools/host_profile.hpp"
#include "tools/json_output.hpp"
#include "tools/problem_options.hpp"
#include "tools/quantity_text.hpp"

namespace signsplit::tools {
namespace {

struct LayerOptions {
  std::string hardware = "host", launch = "graph", threads = "0", context, kv_width;
  ProblemOptions problem;
};

struct Question {
  ProblemChoice choice;
  sim::Machine machine;
  sim::Attention attention;
  std::vector<index_t> contexts;
  int threads = 0;
  sim::LaunchMode launch = sim::LaunchMode::graph;
};

/// "1024,4096", or powers of four from 256 to a million.
Result<std::vector<index_t>> parse_contexts(const std::string& text) {
  if (text.empty()) return std::vector<index_t>{256, 1024, 4096, 16384, 65536, 262144, 1048576};
  std::vector<index_t> contexts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const Result<index_t> context = parse_extent("--context", text.substr(begin, end - begin));
    if (!context) return context.status();
    contexts.push_back(*context);
    begin = end + 1;
  }
  return contexts;
}

Result<Question> resolve_question(const LayerOptions& options) {
  const Result<ProblemChoice> choice = resolve(options.problem);
  if (!choice) return choice.status();
  Result<std::vector<index_t>> contexts = parse_contexts(options.context);
  if (!contexts) return contexts.status();
  const Result<int> threads = parse_threads(options.threads);
  if (!threads) return threads.status();
  const std::optional<sim::LaunchMode> launch = sim::parse_launch_mode(options.launch);
  if (!launch) {
    return invalid_argument(fmt::format("--launch '{}' is not known; known are stream, graph, programmatic, cooperative", options.launch));
  }
  sim::Attention attention;
  if (!options.kv_width.empty()) {
    const Result<index_t> width = parse_extent("--kv-width", options.kv_width);
    if (!width) return width.status();
    attention.kv_width = *width;
  }
  Result<sim::Machine> machine = sim::find_machine(options.hardware);
  if (!machine) return machine.status();
  return Question{*choice, std::move(*machine), attention, std::move(*contexts), *threads, *launch};
}

/// The fastest of the dense unfused plans, and of all lossless ones.
struct FfnTimes {
  double unfused_s = 0, best_s = 0;
  std::string best;
};

Result<FfnTimes> ffn_times(const Question& question) {
  const Problem& problem = question.choice.problem;
  FfnTimes times;
  for (const Plan& standard : default_plans(problem, false)) {
    const Plan plan = sim::plan_on(question.machine, problem, standard);
    const auto prediction = sim::predict({problem, plan, sim::expected_activity(question.choice.active, plan, problem), sim::Residency::cold,
                                          question.threads, {}, question.launch}, question.machine);
    if (!prediction) return prediction.status();
    if (plan.strategy == Strategy::unfused && !plan.skip) times.unfused_s = prediction->time_s;
    if (times.best.empty() || prediction->time_s < times.best_s) {
      times.best_s = prediction->time_s;
      times.best = label(plan);
    }
  }
  return times;
}

Result<ExitCode> show_layer(const LayerOptions& options, const Context& context) {
  const Result<Question> question = resolve_question(options);
  if (!question) return question.status();
  const Result<FfnTimes> ffn = ffn_times(*question);
  if (!ffn) return ffn.status();
  const Problem& problem = question->choice.problem;
  const double even = sim::break_even_context(problem, question->attention);
  if (options.hardware == "host") note_uncalibrated_host(context);
  context.print("{}, {} active, one layer, one step, weights and cache from main memory\non {} ({})\n\n", describe(problem),
                percent_text(question->choice.active), question->machine.name, question->machine.title);
  context.print("{:>9} {:>10} {:>10} {:>10} {:>12} {:>12} {:>12} {:>10} {:>12}\n", "context", "FFN", "Q K V O", "KV cache", "attention", "FFN unfused",
                "FFN best", "FFN share", "layer gain");
  Json points = Json::array();
  for (const index_t length : question->contexts) {
    const sim::LayerBytes bytes = sim::layer_bytes(problem, question->attention, length);
    const Result<double> attention = sim::attention_s({problem, {}, {}, sim::Residency::cold, question->threads, {}, question->launch},
                                                      question->attention, length, question->machine);
    if (!attention) return attention.status();
    const double share = ffn->unfused_s / (ffn->unfused_s + *attention);
    const double gain = (ffn->unfused_s + *attention) / (ffn->best_s + *attention);
    context.print("{:>9} {:>10} {:>10} {:>10} {:>12} {:>12} {:>12} {:>10} {:>11.2f}x\n", length, bytes_text(static_cast<double>(bytes.ffn)),
                  bytes_text(static_cast<double>(bytes.projections)), bytes_text(static_cast<double>(bytes.kv_cache)), time_text(*attention),
                  time_text(ffn->unfused_s), time_text(ffn->best_s), percent_text(share), gain);
    points.push_back({{"context", length}, {"bytes", {{"ffn", bytes.ffn}, {"projections", bytes.projections}, {"kv_cache", bytes.kv_cache}}},
                      {"attention_s", *attention}, {"ffn_unfused_s", ffn->unfused_s}, {"ffn_best_s", ffn->best_s}, {"ffn_share", share}, {"layer_gain", gain}});
  }
  context.print("\nbest FFN schedule: {}. The KV cache weighs as much as the dense FFN at a context of {:.0f}.\n", ffn->best, even);
  const Json document = {{"best", ffn->best}, {"break_even_context", even}, {"points", std::move(points)}};
  if (const Status status = write_json(context, document); !status) return status;
  return ExitCode::done;
}

}  // namespace

void add_layer(CLI::App& app, Context& context) {
  auto options = std::make_shared<LayerOptions>();
  CLI::App& command = add_command(
      app, "layer", "FFN against attention over context length: when does the FFN matter?",
      "Bytes are exact; times are predictions for one layer and one step. Layer gain: the layer with the dense unfused FFN over\n"
      "the layer with the best FFN schedule.\n\n"
      "Examples:\n"
      "  signsplit layer --model opt-6.7b --hardware h200\n"
      "  signsplit layer --model turbosparse-mistral-7b --kv-width 1024 --context 1000,8000,32000 --json -");
  command.add_option("--hardware", options->hardware, "host, a name of `signsplit hardware`, or a profile (.json)")
      ->type_name("NAME|FILE|host")
      ->capture_default_str()
      ->group("The machine");
  command.add_option("--threads", options->threads, "Threads of a CPU, blocks of a GPU; 0: the machine's")
      ->type_name("T")
      ->capture_default_str()
      ->group("The machine");
  command.add_option("--launch", options->launch, "How kernels are started on a GPU: stream, graph, programmatic, cooperative")
      ->type_name("MODE")
      ->capture_default_str()
      ->group("The machine");
  command.add_option("--context", options->context, "Context lengths, comma between them; default: 256 to 1048576")->type_name("N[,N...]");
  command.add_option("--kv-width", options->kv_width, "KV heads times head dimension; default: D (every head has its own keys and values)")
      ->type_name("N");
  add_problem_options(command, options->problem);
  add_json_option(command, context);
  on_run(command, context, [options, &context] { return show_layer(*options, context); });
}

}  // namespace signsplit::tools
