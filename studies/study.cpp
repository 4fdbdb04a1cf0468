#include "studies/study.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fmt/format.h>
#include <limits>

#include "signsplit/atomic_file.hpp"
#include "signsplit/synthetic.hpp"
#include "studies/plot.hpp"
#include "tools/json_output.hpp"
#include "tools/layer_input.hpp"

namespace signsplit::studies {
namespace {

using tools::Json;

struct Options {
  std::vector<std::string> weights, input;
  std::string json, svg;
  int threads = 0;
  std::uint64_t seed = 1;
};

/// Layers named on the command line, or the shipped one; then one of independent Gaussian weights.
Result<Settings> load_settings(const Options& options) {
  Settings settings;
  settings.threads = options.threads;
  settings.seed = options.seed;
  if (options.weights.size() != options.input.size()) return invalid_argument("--weights and --input: one input per layer");
  std::vector<std::string> weights = options.weights, input = options.input;
  if (weights.empty()) {
    weights = {SIGNSPLIT_SOURCE_DATA "/layer0-relu.safetensors"};
    input = {SIGNSPLIT_SOURCE_DATA "/layer0-x.npy"};
  }
  for (std::size_t i = 0; i < weights.size(); ++i) {
    Result<tools::LayerInput> layer = tools::load_layer_input(weights[i], input[i]);
    if (!layer) return layer.status();
    settings.layers.push_back({std::filesystem::path(weights[i]).stem().string(), std::move(layer->weights),
                               std::move(layer->x.values), layer->x.rows});
  }
  Result<Layer> gaussian = gaussian_layer("gaussian", {.d_model = 512, .d_ff = 2048}, 64, settings);
  if (!gaussian) return gaussian.status();
  settings.layers.push_back(std::move(*gaussian));
  return settings;
}

std::string cell_text(const Cell& cell) {
  if (const auto* text = std::get_if<std::string>(&cell)) return *text;
  const double number = std::get<double>(cell);
  if (!std::isfinite(number)) return "–";
  return std::floor(number) == number && std::abs(number) < 1e9 ? fmt::format("{:.0f}", number) : fmt::format("{:.4g}", number);
}

/// As Markdown: what is printed can be pasted into a page.
void print_table(const Table& table) {
  fmt::print("\n{}\n\n|", table.name);
  for (const std::string& column : table.columns) fmt::print(" {} |", column);
  fmt::print("\n|");
  for (std::size_t i = 0; i < table.columns.size(); ++i) fmt::print("---|");
  fmt::print("\n");
  for (const auto& row : table.rows) {
    fmt::print("|");
    for (const Cell& cell : row) fmt::print(" {} |", cell_text(cell));
    fmt::print("\n");
  }
}

Json document(const Study& study, const Settings& settings, const Findings& findings) {
  Json json{{"study", study.name}, {"question", study.question}, {"seed", settings.seed}};
  for (const Table& table : findings.tables) {
    Json& rows = json[table.name] = Json::array();
    for (const auto& cells : table.rows) {
      Json row = Json::object();
      for (std::size_t i = 0; i < cells.size(); ++i) {
        std::visit([&](const auto& value) { row[table.columns[i]] = value; }, cells[i]);
      }
      rows.push_back(std::move(row));
    }
  }
  return json;
}

Status conduct(const Study& study, const Options& options) {
  const Result<Settings> settings = load_settings(options);
  if (!settings) return settings.status();
  const Result<Findings> findings = study.run(*settings);
  if (!findings) return findings.status();
  fmt::print("{}\n", study.question);
  for (const Table& table : findings->tables) print_table(table);
  if (!options.json.empty()) {
    const Status status = write_file(options.json, tools::json_text(document(study, *settings, *findings)));
    if (!status) return status;
  }
  if (options.svg.empty()) return {};
  const Result<std::string> svg = draw_svg(findings->plot);
  return svg ? write_file(options.svg, *svg) : svg.status();
}

}  // namespace

Result<Layer> gaussian_layer(std::string name, const Problem& problem, index_t tokens, const Settings& settings) {
  Result<Weights> weights = synthetic_weights(problem, 0.1, settings.seed, settings.threads);
  if (!weights) return weights.status();
  return Layer{std::move(name), std::move(*weights), synthetic_input(tokens, problem.d_model, settings.seed + 1), tokens};
}

double Table::number(std::size_t row, std::string_view column) const {
  const auto found = std::find(columns.begin(), columns.end(), column);
  if (found == columns.end() || row >= rows.size()) return std::numeric_limits<double>::quiet_NaN();
  const double* const value = std::get_if<double>(&rows[row][static_cast<std::size_t>(found - columns.begin())]);
  return value != nullptr ? *value : std::numeric_limits<double>::quiet_NaN();
}

std::vector<double> interleaved_medians(const std::vector<std::function<void()>>& calls, int rounds) {
  using Clock = std::chrono::steady_clock;
  std::vector<std::vector<double>> seconds(calls.size());
  for (int round = -1; round < rounds; ++round) {  // the first round only warms up
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const Clock::time_point start = Clock::now();
      calls[i]();
      if (round >= 0) seconds[i].push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
  }
  std::vector<double> medians;
  for (std::vector<double>& times : seconds) {
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    medians.push_back(*middle);
  }
  return medians;
}

int run_study(int argc, char** argv, const Study& study) {
  CLI::App app{std::string(study.question), fmt::format("study_{}", study.name)};
  Options options;
  app.add_option("--weights", options.weights, "Layers, safetensors; default: the one in data/")->type_name("FILE...");
  app.add_option("--input", options.input, "Tokens [N, D] for each layer, .npy f32")->type_name("FILE...");
  app.add_option("--json", options.json, "Write the tables as JSON")->type_name("FILE");
  app.add_option("--svg", options.svg, "Write the plot as SVG (needs gnuplot)")->type_name("FILE");
  app.add_option("--threads", options.threads, "Threads; 0: all")->check(CLI::Range(0, 4096))->capture_default_str();
  app.add_option("--seed", options.seed, "Of the synthetic layers")->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);  // --help
    fmt::print(stderr, "study_{}: {}\n", study.name, tools::one_line(error.what()));
    return 2;
  }
  const Status status = conduct(study, options);
  if (status.ok()) return 0;
  fmt::print(stderr, "study_{}: {}\n", study.name, tools::one_line(status.message()));
  return 2;
}

}  // namespace signsplit::studies
