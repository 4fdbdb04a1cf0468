// signsplit sweep: who wins, over shapes, batches, weight types, activity and machines.
#include "signsplit/sim/sweep.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>

#include "signsplit/atomic_file.hpp"
#include "signsplit/models.hpp"
#include "tools/command.hpp"
#include "tools/json_output.hpp"
#include "tools/quantity_text.hpp"
#include "tools/question.hpp"
#include "tools/sweep_page.hpp"

namespace signsplit::tools {
namespace {

struct SweepOptions {
  std::vector<std::string> shapes{"512x2048", "768x3072", "1024x4096", "2048x8192", "4096x16384"}, batches{"1"}, dtypes{"bf16"},
      actives, hardware{"host"};  // no actives: kDefaultActives, or --activity's
  std::string activity, activation, residency = "cold", unfused_launch = "one_region", launch = "graph", threads = "0", csv, html;
  bool gated = false;
};

constexpr const char* kDefaultActives = "0.01:1:13";
constexpr std::size_t kMostPoints = 10'000'000;

/// "512x2048", or "models": the shapes of all published models, without repetition.
Status add_shapes(const std::string& text, sim::SweepRequest& request) {
  const auto add = [&](index_t d, index_t f) {
    const std::pair<index_t, index_t> shape{d, f};
    for (const auto& known : request.shapes) {
      if (known == shape) return;
    }
    request.shapes.push_back(shape);
  };
  if (text == "models") {
    for (const Model& model : models()) add(model.d_model, model.d_ff);
    return {};
  }
  const std::optional<Shape> shape = parse_shape(text);
  if (!shape) return invalid_argument(fmt::format("--shape '{}' must be DxF, for instance 2048x8192, or models", text));
  add(shape->d_model, shape->d_ff);
  return {};
}

std::optional<double> parse_fraction(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const bool number = !text.empty() && end == text.c_str() + text.size();
  return number && value > 0.0 && value <= 1.0 ? std::optional<double>(value) : std::nullopt;
}

/// "0.1", or "0.01:1:13": that many values, each a constant factor above the one before.
Status add_actives(const std::string& text, sim::SweepRequest& request) {
  const std::size_t first = text.find(':'), second = first == std::string::npos ? first : text.find(':', first + 1);
  const Status refusal = invalid_argument(
      fmt::format("--active '{}' must be a fraction above 0 and up to 1, or FROM:TO:COUNT with at least 2 values", text));
  const std::optional<double> from = parse_fraction(text.substr(0, first));
  if (!from) return refusal;
  if (first == std::string::npos) {
    request.actives.push_back(*from);
    return {};
  }
  if (second == std::string::npos) return refusal;
  const std::optional<double> to = parse_fraction(text.substr(first + 1, second - first - 1));
  const std::optional<index_t> count = parse_count(text.substr(second + 1));
  if (!to || !count || *count < 2 || *count > 100'000) return refusal;
  for (index_t i = 0; i < *count; ++i) {
    request.actives.push_back(std::min(1.0, *from * std::pow(*to / *from, static_cast<double>(i) / static_cast<double>(*count - 1))));
  }
  return {};
}

Status resolve_axes(const SweepOptions& options, sim::SweepRequest& request) {
  for (const std::string& text : options.shapes) {
    if (const Status status = add_shapes(text, request); !status) return status;
  }
  request.batches.clear();
  for (const std::string& text : options.batches) {
    const Result<index_t> batch = parse_extent("--batch", text);
    if (!batch) return batch.status();
    request.batches.push_back(*batch);
  }
  request.dtypes.clear();
  for (const std::string& text : options.dtypes) {
    const std::optional<DType> dtype = parse_dtype(text);
    if (!dtype) return invalid_argument(fmt::format("--dtype '{}' is not known", text));
    request.dtypes.push_back(*dtype);
  }
  request.actives.clear();
  for (const std::string& text : options.actives.empty() ? std::vector<std::string>{kDefaultActives} : options.actives) {
    if (const Status status = add_actives(text, request); !status) return status;
  }
  return {};
}

/// --activity, in place of the axis of --active.
Status resolve_activity(const std::string& file, sim::SweepRequest& request) {
  Result<ActivitySource> read = read_activity(file);
  if (!read) return read.status();
  const auto source = std::make_shared<const ActivitySource>(std::move(*read));
  for (const auto& [d_model, d_ff] : request.shapes) {
    for (const index_t batch : request.batches) {
      const Status status = source->fits({.d_model = d_model, .d_ff = d_ff, .batch = batch});
      if (!status) return invalid_argument(file + ": " + status.message());
    }
  }
  request.actives = {source->active};
  request.activity_of = [source](const Plan& plan, const Problem& problem) { return source->of(plan, problem); };
  return {};
}

Result<sim::SweepRequest> resolve_request(const SweepOptions& options) {
  sim::SweepRequest request;
  if (const Status status = resolve_axes(options, request); !status) return status;
  request.gated = options.gated;
  if (!options.activation.empty()) {
    const Result<ParsedActivation> activation = parse_activation_option(options.activation);
    if (!activation) return activation.status();
    request.activation = activation->activation;
    request.gated = request.gated || activation->must_be_gated;
  }
  if (!closes_units(request.activation)) {
    if (!options.actives.empty() && request.actives != std::vector<double>{1.0}) {
      return invalid_argument(fmt::format("--active has no meaning for {}, which closes no unit", to_string(request.activation, request.gated)));
    }
    request.actives = {1.0};
  }
  if (!options.activity.empty()) {
    if (!options.actives.empty()) return invalid_argument("--activity and --active exclude each other");
    if (const Status status = resolve_activity(options.activity, request); !status) return status;
  }
  const Result<sim::Residency> residency = parse_residency(options.residency);
  if (!residency) return residency.status();
  request.residency = *residency;
  const Result<Launch> launch = parse_unfused_launch(options.unfused_launch);
  if (!launch) return launch.status();
  request.unfused_launch = *launch;
  const Result<sim::LaunchMode> mode = parse_launch_mode_option(options.launch);
  if (!mode) return mode.status();
  request.launch_mode = *mode;
  const Result<int> threads = parse_threads(options.threads);
  if (!threads) return threads.status();
  request.threads = *threads;
  return request;
}

void print_summary(std::span<const sim::SweepPoint> points, std::span<const sim::Machine> machines, const Context& context) {
  context.print("{:<24} {:>10} {:>10} {:>14} {:>12}\n", "machine", "points", "fuse", "keep unfused", "too close");
  for (std::size_t m = 0; m < machines.size(); ++m) {
    std::size_t counts[3] = {}, all = 0;
    for (const sim::SweepPoint& point : points) {
      if (point.machine != m) continue;
      ++all;
      ++counts[static_cast<std::size_t>(point.verdict)];
    }
    context.print("{:<24} {:>10} {:>10} {:>14} {:>12}\n", machines[m].name, all, counts[0], counts[1], counts[2]);
  }
}

/// A letter for every verdict, a row for every shape: what there is room for on a screen; --html draws all.
void print_maps(const sim::SweepRequest& request, std::span<const sim::SweepPoint> points, std::span<const sim::Machine> machines,
                const Context& context) {
  const std::size_t columns = request.actives.size(), rows = points.size() / std::max<std::size_t>(columns, 1);
  if (columns < 2 || columns > 64 || rows > 40) return;
  context.print("\nF fuse, u keep unfused, . too close to call; open units from {} (left) to {}\n", percent_text(request.actives.front()),
                percent_text(request.actives.back()));
  for (std::size_t row = 0; row < rows; ++row) {
    const auto line = points.subspan(row * columns, columns);
    const sim::SweepPoint& first = line.front();
    std::string letters;
    for (const sim::SweepPoint& point : line) {
      letters += point.verdict == sim::Verdict::fuse ? 'F' : point.verdict == sim::Verdict::keep_unfused ? 'u' : '.';
    }
    context.print("{:<24} {:<5} batch {:<3} {:>12}  {}\n", machines[first.machine].name, to_string(first.dtype), first.batch,
                  fmt::format("{}x{}", first.d_model, first.d_ff), letters);
  }
}

Json points_json(std::span<const sim::SweepPoint> points, std::span<const sim::Machine> machines) {
  Json list = Json::array();
  for (const sim::SweepPoint& p : points) {
    list.push_back({{"machine", machines[p.machine].name},
                    {"d_model", p.d_model},
                    {"d_ff", p.d_ff},
                    {"batch", p.batch},
                    {"dtype", to_string(p.dtype)},
                    {"active", p.active},
                    {"fused", fmt::format("{}{}", p.fused, p.fused_skips ? "+skip" : "")},
                    {"unfused", fmt::format("{}{}", p.unfused, p.unfused_skips ? "+skip" : "")},
                    {"fused_s", p.fused_s},
                    {"unfused_s", p.unfused_s},
                    {"ratio", p.unfused_s / p.fused_s},
                    {"uncertainty_s", p.uncertainty_s},
                    {"verdict", sim::to_string(p.verdict)}});
  }
  return list;
}

Status write_outputs(const SweepOptions& options, const sim::SweepRequest& request, std::span<const sim::SweepPoint> points,
                     std::span<const sim::Machine> machines, const Context& context) {
  if (!options.csv.empty()) {
    if (const Status status = write_file(options.csv, sim::to_csv(points, machines)); !status) return status;
  }
  if (!options.html.empty()) {
    if (const Status status = write_file(options.html, sweep_page(request, points, machines)); !status) return status;
  }
  if (context.json_target.empty()) return {};
  return write_json(context, {{"points", points_json(points, machines)}});
}

Result<ExitCode> sweep(const SweepOptions& options, const Context& context) {
  const Result<sim::SweepRequest> request = resolve_request(options);
  if (!request) return request.status();
  for (const auto& [option, file] : {std::pair{"--csv", options.csv}, std::pair{"--html", options.html}}) {
    if (file.empty()) continue;
    if (const Status status = check_output(file, option); !status) return status;
  }
  std::vector<sim::Machine> machines;
  for (const std::string& name : options.hardware) {
    Result<sim::Machine> machine = sim::find_machine(name);
    if (!machine) return machine.status();
    machines.push_back(std::move(*machine));
  }
  const double count = static_cast<double>(request->shapes.size()) * static_cast<double>(request->batches.size()) *
                       static_cast<double>(request->dtypes.size()) * static_cast<double>(request->actives.size()) *
                       static_cast<double>(machines.size());
  if (count > static_cast<double>(kMostPoints)) return invalid_argument(fmt::format("{:.0f} points are more than {}", count, kMostPoints));
  const Result<std::vector<sim::SweepPoint>> points = sim::sweep(*request, machines);
  if (!points) return points.status();
  print_summary(*points, machines, context);
  print_maps(*request, *points, machines, context);
  if (const Status status = write_outputs(options, *request, *points, machines, context); !status) return status;
  return ExitCode::done;
}

}  // namespace

void add_sweep(CLI::App& app, Context& context) {
  auto options = std::make_shared<SweepOptions>();
  CLI::App& command = add_command(
      app, "sweep", "Map who wins, fused or unfused, over shapes, batches, weight types, activity and machines",
      "Every combination is a point: the best fused against the best unfused of the schedules that give the same bits.\n"
      "Lists are separated by commas.\n"
      "\n"
      "Examples:\n"
      "  signsplit sweep --shape models --batch 1,4 --hardware host,epyc-turin-9355p --html map.html\n"
      "  signsplit sweep --shape 512x2048,4096x16384 --dtype f32,bf16 --active 0.01:1:50 --csv map.csv\n"
      "  signsplit sweep --residency warm --unfused-launch region_per_phase --json -");
  const auto list = [&](const char* name, std::vector<std::string>& values, const char* what, const char* type) {
    command.add_option(name, values, what)->delimiter(',')->type_name(type)->capture_default_str()->group("The axes");
  };
  list("--shape", options->shapes, "d_model x d_ff, or models: the shapes of all published models", "DxF,...");
  list("--batch", options->batches, "Tokens computed together", "B,...");
  list("--dtype", options->dtypes, "Types of the weights", "T,...");
  list("--active", options->actives, "Fractions of active units; FROM:TO:COUNT for a geometric row of them; default: 0.01:1:13", "A,...");
  add_activity_option(command, options->activity);
  list("--hardware", options->hardware, "Machines: host, names of `signsplit hardware`, profiles (.json)", "NAME,...");
  command.add_option("--activation", options->activation, "The activation; default: relu")->type_name("A")->group("The FFN");
  command.add_flag("--gated", options->gated, "With a gate matrix")->group("The FFN");
  command.add_option("--threads", options->threads, "Threads; 0: each machine's")->type_name("T")->capture_default_str();
  add_residency_option(command, options->residency);
  add_unfused_launch_option(command, options->unfused_launch);
  add_launch_mode_option(command, options->launch);
  command.add_option("--csv", options->csv, "Where to write the points as CSV")->type_name("FILE");
  command.add_option("--html", options->html, "Where to write a page of heat maps with the line where the order turns")->type_name("FILE");
  add_json_option(command, context);
  on_run(command, context, [options, &context] { return sweep(*options, context); });
}

}  // namespace signsplit::tools
