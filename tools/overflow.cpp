// signsplit overflow: how wide an accumulator must be when the positive and the negative stream are kept apart.
#include "signsplit/overflow.hpp"

#include <charconv>
#include <cmath>

#include "tools/analysis_json.hpp"
#include "tools/command.hpp"
#include "tools/cpu_options.hpp"
#include "tools/json_output.hpp"
#include "tools/layer_input.hpp"
#include "tools/quantity_text.hpp"

namespace signsplit::tools {
namespace {

struct Options {
  std::string weights, input, x_bound, threads = "0";
};

Result<double> parse_bound(const std::string& text) {
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value) || value <= 0.0) {
    return invalid_argument(fmt::format("--x-bound '{}' must be a number above 0", text));
  }
  return value;
}

std::string observed_text(const SumRange& range) { return range.observed ? fmt::format("{:.5g}", *range.observed) : "-"; }

void print_view(std::string_view name, const OverflowView& view, bool integer, const Context& context) {
  context.print("{}, |x| ≤ {:g}\n  sum      worst case     observed{}\n", name, view.x_bound,
                integer ? "     bits, worst case / observed" : "");
  const auto line = [&](std::string_view sum, const SumRange& range) {
    context.print("  {:<3}  {:>14.5g} {:>12}", sum, range.worst, observed_text(range));
    if (integer) {
      context.print("     {:>16} / {}", accumulator_bits(range.worst),
                    range.observed ? std::to_string(accumulator_bits(*range.observed)) : "-");
    }
    context.print("\n");
  };
  line("P", view.p);
  line("-N", view.n);
  line("|z|", view.z);
  context.print("  accumulator     worst case   P and N observed   z observed   safe K tile, worst case / observed\n");
  const auto verdict = [](bool fits) { return fits ? "fits" : "overflows"; };
  const bool seen = view.p.observed.has_value();
  for (const AccumulatorFit& fit : view.accumulators) {
    context.print("  {:<5}{:>21} {:>18} {:>12} {:>24} / {}\n", fit.name, verdict(fit.fits_worst),
                  seen ? verdict(fit.fits_streams) : "-", seen ? verdict(fit.fits_z) : "-", fit.k_tile_worst,
                  seen ? std::to_string(fit.k_tile_observed) : "-");
  }
}

void print_report(const OverflowReport& report, const Context& context) {
  print_view("float", report.real, false, context);
  print_view("w8a8", report.w8a8, true, context);
  context.print("  (fp16 under w8a8: exact up to 2048)\n");
  if (report.tokens == 0) return;
  context.print("z = P + N cancels {:.3f} bits (median), {:.3f} (99 %); sign lost when P and N are rounded to fp16: {}, to "
                "bf16: {}\n",
                report.cancelled_bits_median, report.cancelled_bits_p99,
                fmt::format("{:.3f} %", 100 * report.sign_in_doubt_fp16),
                fmt::format("{:.3f} %", 100 * report.sign_in_doubt_bf16));
}

Result<OverflowReport> analyse(const Options& options, const Context& context) {
  const Result<int> threads = parse_threads(options.threads);
  if (!threads) return threads.status();
  double bound = 0.0;
  if (!options.x_bound.empty()) {
    const Result<double> parsed = parse_bound(options.x_bound);
    if (!parsed) return parsed.status();
    bound = *parsed;
  }
  if (options.input.empty() && bound == 0.0) {
    return invalid_argument("neither --input nor --x-bound was given: a worst case needs a bound on |x|");
  }
  const Result<Weights> weights = load_weights(options.weights);
  if (!weights) return weights.status();
  FloatMatrix x;
  if (!options.input.empty()) {
    Result<FloatMatrix> read = read_matrix(options.input);
    if (!read) return read.status();
    if (const Status status = check_input(*read, options.input, *weights, options.weights); !status) return status;
    x = std::move(*read);
  }
  context.print("{}: {}, {} token(s); product 1, without bias{}\n", options.weights, describe(weights->problem()), x.rows,
                weights->gated() ? ", of the gate" : "");
  const Result<OverflowReport> report = analyse_overflow(*weights, x.values, x.rows, bound, *threads);
  if (!report) return invalid_argument(fmt::format("{}: {}", options.weights, report.message()));
  return report;
}

Result<ExitCode> run(const Options& options, const Context& context) {
  const Result<OverflowReport> report = analyse(options, context);
  if (!report) return report.status();
  print_report(*report, context);
  Json json{{"weights", options.weights}, {"input", options.input.empty() ? Json(nullptr) : Json(options.input)}};
  json.update(overflow_json(*report));
  if (const Status status = write_json(context, json); !status) return status;
  return ExitCode::done;
}

}  // namespace

void add_overflow(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App& command = add_command(
      app, "overflow", "Say how wide accumulators must be for the positive and the negative stream of a layer",
      "P adds the positive products w·x, N the negative ones, z = P + N. Worst case: what the weights permit while |x| stays\n"
      "within its bound. Observed: on the inputs. For the weights and inputs as they are (float), and quantized to int8, per\n"
      "row and per token (w8a8). The safe K tile is the longest, wherever it starts, in which no stream overflows.\n\n"
      "Examples:\n"
      "  signsplit overflow --weights data/layer0-relu.safetensors --input data/layer0-x.npy\n"
      "  signsplit overflow --weights w.safetensors --x-bound 8");
  command.add_option("--weights", options->weights, "The layer, safetensors")->type_name("FILE")->required();
  command.add_option("--input", options->input, "Tokens [N, D], .npy f32 or safetensors")->type_name("FILE");
  command.add_option("--x-bound", options->x_bound, "Bound on |x| for the worst case; default: the largest of the input")
      ->type_name("X");
  command.add_option("--threads", options->threads, "Threads; 0: all")->type_name("N")->capture_default_str();
  add_json_option(command, context);
  on_run(command, context, [options, &context] { return run(*options, context); });
}

}  // namespace signsplit::tools
