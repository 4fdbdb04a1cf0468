// signsplit golden: exact data for somebody else's kernels.
#include <charconv>
#include <cmath>
#include <memory>

#include "signsplit/golden.hpp"
#include "signsplit/npy.hpp"
#include "signsplit/synthetic.hpp"
#include "tools/command.hpp"
#include "tools/cpu_options.hpp"
#include "tools/json_output.hpp"
#include "tools/problem_options.hpp"
#include "tools/quantity_text.hpp"

namespace signsplit::tools {
namespace {

namespace fs = std::filesystem;

struct GoldenOptions {
  ProblemOptions problem;
  std::string out, weights, input;
  std::string set = "random", seed = "1", accumulate = "f32", threads = "0";
};

Result<std::uint64_t> parse_seed(const std::string& text) {
  std::uint64_t seed = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
  if (error == std::errc{} && !text.empty() && end == text.data() + text.size()) return seed;
  return invalid_argument(fmt::format("--seed '{}' must be a whole number below 2^64", text));
}

/// --out names a safetensors file, or a folder that need not exist.
Status check_out(const std::string& out) {
  const fs::path path(out);
  if (path.extension() == ".safetensors") return check_output(path, "--out");
  std::error_code error;
  if (out.empty()) return invalid_argument("--out: the name is empty");
  if (fs::exists(path, error) && !fs::is_directory(path, error)) {
    return invalid_argument(fmt::format("--out {}: exists and is not a directory; a file's name must end in .safetensors", out));
  }
  return {};
}

/// --weights with --input, or with normal values as input.
Result<GoldenInput> given_input(const GoldenOptions& options, std::uint64_t seed) {
  if (!options.problem.shape.empty() || !options.problem.model.empty() || options.problem.gated) {
    return invalid_argument("--weights brings the layer: --shape, --model and --gated exclude it");
  }
  std::optional<ParsedActivation> activation;
  if (!options.problem.activation.empty()) {
    const Result<ParsedActivation> parsed = parse_activation_option(options.problem.activation);
    if (!parsed) return parsed.status();
    activation = *parsed;
  }
  Result<Weights> weights = load_weights(options.weights, activation);
  if (!weights) return weights.status();
  const index_t d = weights->d_model();
  if (options.input.empty()) {
    const Result<index_t> batch = parse_extent("--batch", options.problem.batch);
    if (!batch) return batch.status();
    return GoldenInput{std::move(*weights), synthetic_input(*batch, d, seed), *batch};
  }
  Result<FloatMatrix> x = read_matrix(options.input);
  if (!x) return x.status();
  if (x->columns != d) {
    return invalid_argument(fmt::format("{}: has {} columns, but {} needs d_model = {} (up.weight [F, D])", options.input,
                                        x->columns, options.weights, d));
  }
  return GoldenInput{std::move(*weights), std::move(x->values), x->rows};
}

Result<GoldenInput> make_input(const GoldenOptions& options, DataSet set, std::uint64_t seed) {
  if (!options.weights.empty()) return given_input(options, seed);
  if (!options.input.empty()) return invalid_argument("--input needs --weights");
  const Result<ProblemChoice> choice = resolve(options.problem);
  if (!choice) return choice.status();
  return golden_input(choice->problem, set, choice->active, seed);
}

Result<Golden> make(const GoldenOptions& options) {
  const std::optional<DataSet> set = parse_data_set(options.set);
  if (!set || *set == DataSet::given) {
    return invalid_argument(fmt::format(
        "--set '{}' is not known; known are random, exact, cancellation, outliers, scales, subnormals, nonfinite", options.set));
  }
  const std::optional<Accumulation> accumulation = parse_accumulation(options.accumulate);
  if (!accumulation) {
    return invalid_argument(
        fmt::format("--accumulate '{}' is not known; known are f32, f64, bf16-activations", options.accumulate));
  }
  const Result<std::uint64_t> seed = parse_seed(options.seed);
  if (!seed) return seed.status();
  const Result<int> threads = parse_threads(options.threads);
  if (!threads) return threads.status();
  if (const Status status = check_out(options.out); !status) return status;
  Result<GoldenInput> input = make_input(options, *set, *seed);
  if (!input) return input.status();
  GoldenSource source{options.weights.empty() ? *set : DataSet::given, *seed};
  if (!options.input.empty()) source.seed.reset();  // nothing was drawn
  return make_golden(std::move(*input), source, *accumulation, *threads);
}

double active_fraction(const Golden& golden) {
  std::size_t open = 0;
  for (const std::uint8_t one : golden.active) open += one;
  return static_cast<double>(open) / static_cast<double>(golden.active.size());
}

/// The largest finite bound relative to the largest finite |y|: what a kernel may be off, as a first impression.
double relative_bound(const Golden& golden) {
  double bound = 0.0, y = 0.0;
  for (std::size_t i = 0; i < golden.y.size(); ++i) {
    if (std::isfinite(golden.y_bound[i])) bound = std::max(bound, static_cast<double>(golden.y_bound[i]));
    if (std::isfinite(golden.y[i])) y = std::max(y, static_cast<double>(std::fabs(golden.y[i])));
  }
  return y == 0.0 ? 0.0 : bound / y;
}

Json golden_json(const Golden& golden, const GoldenOptions& options, const std::vector<fs::path>& files) {
  const Problem problem = golden.input.weights.problem(golden.input.batch);
  Json names = Json::array();
  for (const fs::path& file : files) names.push_back(file.string());
  return {{"out", options.out},
          {"files", names},
          {"set", to_string(golden.source.set)},
          {"seed", golden.source.seed ? Json(*golden.source.seed) : Json(nullptr)},
          {"d_model", problem.d_model},
          {"d_ff", problem.d_ff},
          {"batch", problem.batch},
          {"dtype", to_string(problem.dtype)},
          {"activation", to_string(problem.activation, problem.gated)},
          {"gated", problem.gated},
          {"accumulation", to_string(golden.accumulation)},
          {"active_fraction", active_fraction(golden)},
          {"relative_bound", relative_bound(golden)},
          {"version", golden.version}};
}

Result<ExitCode> run(const GoldenOptions& options, const Context& context) {
  const Result<Golden> golden = make(options);
  if (!golden) return golden.status();
  const Result<std::vector<fs::path>> files = write_golden(options.out, *golden);
  if (!files) return files.status();
  const Problem problem = golden->input.weights.problem(golden->input.batch);
  const double bound = relative_bound(*golden);
  context.print("layer      {}, set {}, {}\n", describe(problem), to_string(golden->source.set),
                golden->source.seed ? fmt::format("seed {}", *golden->source.seed) : "given input");
  context.print("active     {} of the hidden units\n", percent_text(active_fraction(*golden)));
  context.print("bounds     for {} accumulation in any order; the widest is {}\n", to_string(golden->accumulation),
                bound == 0.0 ? "0: every correct kernel gives the same bits" : fmt::format("{:.2g} of the largest |y|", bound));
  context.print("output     {} ({} file(s))\n", options.out, files->size());
  context.print("\nRun your kernel on `x`, then:  signsplit check --golden {} --output YOUR_Y.npy\n", options.out);
  if (const Status status = write_json(context, golden_json(*golden, options, *files)); !status) return status;
  return ExitCode::done;
}

}  // namespace

void add_golden(CLI::App& app, Context& context) {
  auto options = std::make_shared<GoldenOptions>();
  CLI::App& command = add_command(
      app, "golden", "Write a layer, inputs and the exact outputs, to check a kernel against",
      "Written: the layer (up.weight, down.weight, ...), x and y [B, D], y_staged, y_bound, z, h, z_bound, h_bound and active\n"
      "[B, F]. y is the exact result rounded once; |your y - y| <= y_bound holds for every correct kernel, whatever the order\n"
      "of its sums. --out NAME.safetensors writes one file; any other name, a folder with the same file and .npy files.\n"
      "\n"
      "Sets:\n"
      "  random        Gaussian values                      exact      integers: correct kernels agree bit for bit\n"
      "  cancellation  |z| far below the sum of |x||w|      outliers   a few channels 1000 times as large\n"
      "  scales        powers of two up to 2^20 apart       subnormals outputs below 2^-126\n"
      "  nonfinite     NaN and infinities in x, W2 and b2\n"
      "\n"
      "Examples:\n"
      "  signsplit golden --shape 256x1024 --batch 4 --out golden\n"
      "  signsplit golden --shape 256x1024 --set exact --dtype f32 --out exact.safetensors\n"
      "  signsplit golden --weights layer.safetensors --input x.npy --accumulate bf16-activations --out golden");
  command.add_option("--out", options->out, "A folder, or a file NAME.safetensors")->type_name("PATH")->required();
  command.add_option("--set", options->set, "Kind of data, see below")->type_name("SET")->capture_default_str();
  command.add_option("--seed", options->seed, "Decides every random value")->type_name("N")->capture_default_str();
  command.add_option("--weights", options->weights, "Instead of a set: this layer, safetensors")->type_name("FILE");
  command.add_option("--input", options->input, "With --weights: tokens [N, D], .npy f32 or safetensors; default: Gaussian")
      ->type_name("FILE");
  command
      .add_option("--accumulate", options->accumulate,
                  "Arithmetic that the bounds are for: f32, f64, or bf16-activations (x and h rounded to bf16)")
      ->type_name("T")
      ->capture_default_str();
  command.add_option("--threads", options->threads, "Threads; 0: all")->type_name("T")->capture_default_str();
  add_problem_options(command, options->problem);
  add_json_option(command, context);
  on_run(command, context, [options, &context] { return run(*options, context); });
}

}  // namespace signsplit::tools
