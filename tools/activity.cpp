// signsplit activity: how sparse a layer is on given inputs, and what a certificate or a K-tiled push makes of it.
#include "signsplit/activity.hpp"

#include <vector>

#include "tools/analysis_json.hpp"
#include "tools/command.hpp"
#include "tools/cpu_options.hpp"
#include "tools/json_output.hpp"
#include "tools/layer_input.hpp"
#include "tools/problem_options.hpp"
#include "tools/quantity_text.hpp"

namespace signsplit::tools {
namespace {

struct Options {
  std::vector<std::string> weights, input;
  std::vector<std::string> plane_bits = {"8", "7", "6", "4"}, plane_groups = {"64"}, tilings = {"2", "4", "8"};
  std::string activation, threads = "0";
};

Result<ActivityOptions> resolve_measurement(const Options& options) {
  ActivityOptions measurement{{}, {}, {}, 0};
  const Result<int> threads = parse_threads(options.threads);
  if (!threads) return threads.status();
  measurement.threads = *threads;
  for (const std::string& text : options.plane_bits) {
    const Result<index_t> bits = parse_extent("--plane-bits", text, 8);
    if (!bits) return bits.status();
    measurement.plane_bits.push_back(static_cast<int>(*bits));
  }
  for (const std::string& text : options.plane_groups) {
    const Result<index_t> group = parse_extent("--plane-group", text);
    if (!group) return group.status();
    measurement.plane_groups.push_back(*group);
  }
  for (const std::string& text : options.tilings) {
    const Result<index_t> tiles = parse_extent("--k-tiles", text);
    if (!tiles) return tiles.status();
    measurement.tilings.push_back(*tiles);
  }
  return measurement;
}

void print_layer(const std::string& file, const Weights& weights, const ActivityReport& report, const Context& context) {
  context.print("{}: {}, {} token(s)\n", file, describe(weights.problem()), report.tokens);
  context.print("  active            {} of all units; {} of {} never, {} always\n", percent_text(report.active),
                report.never_active, report.units, report.always_active);
  context.print("  z                 mean {:.3f}, sigma {:.3f}; {} within 0.1 sigma of the threshold\n", report.z_mean,
                report.z_sigma, percent_text(report.near_threshold));
  context.print("  z / sigma        ");
  for (std::size_t i = 0; i < report.z_quantiles.size(); ++i) {
    context.print(" {:g} %: {:.2f}", 100 * ActivityReport::kQuantiles[i], report.z_quantiles[i]);
  }
  context.print("\n  plane   group   proven dead   of the dead   dead, not proven   as executed\n");
  for (const PlaneRate& plane : report.planes) {
    context.print("  {} bits  {:>5}   {:>11}   {:>11}   {:>16}   {:>11}\n", plane.bits, plane.group, percent_text(plane.proven),
                  percent_text(plane.proven_of_dead), percent_text(plane.false_survivors), percent_text(plane.executed));
  }
  context.print("  K tiles   units pushed wrongly   rows pushed per unit\n");
  for (const CrossingRate& crossing : report.crossings) {
    context.print("  {:>7}   {:>20}   {:>20.3f}\n", crossing.k_tiles, percent_text(crossing.wrong), crossing.pushed);
  }
}

Result<ExitCode> run(const Options& options, const Context& context) {
  if (options.weights.size() != options.input.size()) {
    return invalid_argument(fmt::format("--weights names {} file(s) and --input {}: one input for each layer, in the same "
                                        "order", options.weights.size(), options.input.size()));
  }
  const Result<ActivityOptions> measurement = resolve_measurement(options);
  if (!measurement) return measurement.status();
  std::optional<ParsedActivation> activation;
  if (!options.activation.empty()) {
    const Result<ParsedActivation> parsed = parse_activation_option(options.activation);
    if (!parsed) return parsed.status();
    activation = *parsed;
  }
  Json layers = Json::array();
  for (std::size_t i = 0; i < options.weights.size(); ++i) {
    const Result<LayerInput> layer = load_layer_input(options.weights[i], options.input[i], activation);
    if (!layer) return layer.status();
    const Result<ActivityReport> report = measure_activity(layer->weights, layer->x.values, layer->x.rows, *measurement);
    if (!report) return invalid_argument(fmt::format("{}, {}: {}", options.weights[i], options.input[i], report.message()));
    print_layer(options.weights[i], layer->weights, *report, context);
    Json json{{"weights", options.weights[i]}, {"input", options.input[i]}};
    json.update(activity_json(*report));
    layers.push_back(std::move(json));
  }
  if (const Status status = write_json(context, {{"layers", std::move(layers)}}); !status) return status;
  return ExitCode::done;
}

}  // namespace

void add_activity(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App& command = add_command(
      app, "activity", "Measure which hidden units of a layer are open, and what can be proven of the others",
      "Per layer: the fraction of open units, the distribution of z (gated: of the gate's), how many units a certificate\n"
      "with a plane of so many bits and such groups proves dead (in double, and as a certified plan executes it), and\n"
      "how many units a push of K-tiled interim results gets wrong.\n\n"
      "Examples:\n"
      "  signsplit activity --weights data/layer0-relu.safetensors --input data/layer0-x.npy\n"
      "  signsplit activity --weights a.safetensors b.safetensors --input a.npy b.npy --plane-bits 8 6 --plane-group 64 128");
  command.add_option("--weights", options->weights, "Layers, safetensors")->type_name("FILE...")->required();
  command.add_option("--input", options->input, "Tokens [N, D] for each layer, .npy f32 or safetensors")
      ->type_name("FILE...")
      ->required();
  command.add_option("--activation", options->activation, "Instead of the file's")->type_name("A");
  command.add_option("--plane-bits", options->plane_bits, "Widths of the certificate's plane, 2 to 8")
      ->type_name("N...")
      ->capture_default_str();
  command.add_option("--plane-group", options->plane_groups, "Elements of D per scale and norm, multiples of 64")
      ->type_name("N...")
      ->capture_default_str();
  command.add_option("--k-tiles", options->tilings, "Numbers of K tiles to push")->type_name("N...")->capture_default_str();
  command.add_option("--threads", options->threads, "Threads; 0: all")->type_name("N")->capture_default_str();
  add_json_option(command, context);
  on_run(command, context, [options, &context] { return run(*options, context); });
}

}  // namespace signsplit::tools
