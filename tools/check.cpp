// signsplit check: somebody else's output against golden data.
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "signsplit/golden.hpp"
#include "signsplit/npy.hpp"
#include "signsplit/safetensors.hpp"
#include "tools/command.hpp"
#include "tools/cpu_options.hpp"
#include "tools/json_output.hpp"

namespace signsplit::tools {
namespace {

struct CheckCommandOptions {
  std::string golden, output, tensor, threads = "0";
  bool allow_bf16 = false, no_hint = false;
};

struct Output {
  std::vector<index_t> shape;
  std::vector<float> values;
  DType dtype = DType::f32;
};

/// The tensor of --tensor; else y, else the only one.
Result<const SafetensorsFile::Tensor*> choose_tensor(const SafetensorsFile& file, const std::string& name) {
  const std::string wanted = name.empty() ? "y" : name;
  if (const auto* tensor = file.find(wanted)) return tensor;
  if (name.empty() && file.tensors().size() == 1) return &file.tensors().begin()->second;
  return not_found(fmt::format("{}: has no tensor {}; name one with --tensor", file.path().string(), wanted));
}

Result<Output> read_tensor(const CheckCommandOptions& options) {
  const Result<SafetensorsFile> file = SafetensorsFile::open(options.output);
  if (!file) return file.status();
  const Result<const SafetensorsFile::Tensor*> chosen = choose_tensor(*file, options.tensor);
  if (!chosen) return chosen.status();
  const SafetensorsFile::Tensor& tensor = **chosen;
  Output output{.shape = tensor.shape, .values = {}};
  if (tensor.dtype == "F32") {
    output.values.resize(tensor.bytes.size() / sizeof(float));
    std::memcpy(output.values.data(), tensor.bytes.data(), tensor.bytes.size());
    return output;
  }
  if (tensor.dtype != "BF16") return unsupported(fmt::format("{}: the tensor must be F32 or BF16", options.output));
  output.dtype = DType::bf16;
  for (std::size_t i = 0; i < tensor.bytes.size(); i += sizeof(bf16)) {
    bf16 value;
    std::memcpy(&value, tensor.bytes.data() + i, sizeof value);
    output.values.push_back(to_float(value));
  }
  return output;
}

Result<Output> read_output(const CheckCommandOptions& options) {
  if (std::filesystem::path(options.output).extension() == ".safetensors") return read_tensor(options);
  if (!options.tensor.empty()) return invalid_argument("--tensor is for safetensors files");
  Result<FloatMatrix> matrix = read_matrix(options.output);
  if (!matrix) return matrix.status();
  return Output{{matrix->rows, matrix->columns}, std::move(matrix->values)};
}

/// [B, D], or all elements in one row.
Status check_shape(const Output& output, const Golden& golden, const std::string& file) {
  const index_t b = golden.input.batch, d = golden.input.weights.d_model();
  const bool flat = output.shape.size() == 1 || (output.shape.size() == 2 && output.shape[0] == 1);
  if (output.shape == std::vector{b, d} || (flat && output.shape.back() == b * d)) return {};
  std::string shape;
  for (const index_t extent : output.shape) shape += fmt::format("{}{}", shape.empty() ? "" : ", ", extent);
  return invalid_argument(fmt::format("{}: has the shape [{}], the golden data needs [B, D] = [{}, {}]", file, shape, b, d));
}

/// The buckets in use, as {from, to, count}: ulps in [from, to].
Json distribution_json(const CheckReport& report) {
  Json buckets = Json::array();
  for (std::size_t i = 0; i < kUlpBuckets; ++i) {
    if (report.distribution[i] == 0) continue;
    const bool last = i + 1 == kUlpBuckets;  // a NaN against a number
    const std::uint64_t from = i == 0 ? 0 : std::uint64_t{1} << (i - 1);
    const std::uint64_t to = i == 0 ? 0 : 2 * from - 1;
    buckets.push_back({{"from", last ? Json(nullptr) : Json(from)},
                       {"to", last ? Json(nullptr) : Json(to)},
                       {"count", report.distribution[i]}});
  }
  return buckets;
}

Json report_json(const CheckReport& report, const Golden& golden, std::span<const float> y) {
  const auto worst = static_cast<std::size_t>(report.worst_index);
  const index_t d = golden.input.weights.d_model();
  Json hint = nullptr;
  if (report.hint.cause != Cause::none) {
    hint = {{"cause", to_string(report.hint.cause)}, {"text", report.hint.text}, {"proven", report.hint.proven}};
  }
  return {{"passed", report.passed},
          {"within_bound", report.within_bound},
          {"max_ulp", report.max_ulp},
          {"max_ulp_staged", report.max_ulp_staged},
          {"worst_index", report.worst_index},
          {"worst",
           {{"token", report.worst_index / d},
            {"column", report.worst_index % d},
            {"got", y[worst]},
            {"expected", golden.y[worst]},
            {"bound", golden.y_bound[worst]},
            {"error_over_bound", report.worst_ratio}}},
          {"counts",
           {{"elements", report.elements},
            {"exact", report.exact},
            {"outside", report.outside},
            {"nan_mismatches", report.nan_mismatches},
            {"inf_mismatches", report.inf_mismatches},
            {"unbounded", report.unbounded}}},
          {"distribution", distribution_json(report)},
          {"where", report.where},
          {"hint", hint}};
}

std::string ulps_text(std::uint64_t ulps) {
  return ulps == std::numeric_limits<std::uint64_t>::max() ? "NaN" : std::to_string(ulps);
}

void print_distribution(const CheckReport& report, const Context& context) {
  for (std::size_t i = 0; i < kUlpBuckets; ++i) {
    const std::uint64_t count = report.distribution[i];
    if (count == 0) continue;
    std::string range = i == 0 ? "0" : fmt::format("up to {}", (std::uint64_t{1} << i) - 1);
    if (i + 1 == kUlpBuckets) range = "NaN";
    const auto bar = static_cast<std::size_t>(std::ceil(40.0 * static_cast<double>(count) / static_cast<double>(report.elements)));
    context.print("  {:>17} ulp {:>9}  {}\n", range, count, std::string(bar, '#'));
  }
}

void print_report(const CheckReport& report, const Golden& golden, std::span<const float> y, const Context& context) {
  const auto worst = static_cast<std::size_t>(report.worst_index);
  const index_t d = golden.input.weights.d_model();
  context.print("{}: {} of {} elements are within their bounds ({} accumulation, any order), {} are exact\n",
                report.passed ? "PASSED" : "FAILED",
                report.elements - report.outside - report.nan_mismatches - report.inf_mismatches, report.elements,
                to_string(golden.accumulation), report.exact);
  context.print("ulps       {} at most against the exact y, {} against y_staged\n", ulps_text(report.max_ulp),
                ulps_text(report.max_ulp_staged));
  print_distribution(report, context);
  context.print("worst      token {}, column {}: {} where {} belongs, within {:.3g}\n", report.worst_index / d,
                report.worst_index % d, y[worst], golden.y[worst], golden.y_bound[worst]);
  if (report.unbounded > 0) context.print("unbounded  {} element(s) may overflow: not checked\n", report.unbounded);
  if (report.nan_mismatches + report.inf_mismatches > 0) {
    context.print("mismatches {} NaN, {} infinite\n", report.nan_mismatches, report.inf_mismatches);
  }
  if (report.passed) return;
  context.print("where      {}\n", report.where);
  if (report.hint.cause == Cause::none) return;
  context.print("cause      {}{}\n", report.hint.text,
                report.hint.proven ? " (recomputed with this fault: it gives your output)"
                                   : (report.hint.cause == Cause::unknown ? "" : " (a guess)"));
}

Result<ExitCode> run(const CheckCommandOptions& options, const Context& context) {
  const Result<int> threads = parse_threads(options.threads);
  if (!threads) return threads.status();
  const Result<Golden> golden = read_golden(options.golden);
  if (!golden) return golden.status();
  const Result<Output> output = read_output(options);
  if (!output) return output.status();
  if (const Status status = check_shape(*output, *golden, options.output); !status) return status;
  const CheckOptions how{.output_dtype = options.allow_bf16 ? DType::bf16 : output->dtype,
                         .hint = !options.no_hint,
                         .threads = *threads};
  const Result<CheckReport> report = check(*golden, output->values, how);
  if (!report) return report.status();
  print_report(*report, *golden, output->values, context);
  if (const Status status = write_json(context, report_json(*report, *golden, output->values)); !status) return status;
  return report->passed ? ExitCode::done : ExitCode::check_failed;
}

}  // namespace

void add_check(CLI::App& app, Context& context) {
  auto options = std::make_shared<CheckCommandOptions>();
  CLI::App& command = add_command(
      app, "check", "Check a kernel's output against golden data; exit status 1 when it is wrong",
      "The output is [B, D]: a .npy of f32, or the tensor `y` (or --tensor NAME, or the only one) of a safetensors file, F32\n"
      "or BF16. Every element must lie within its bound, and NaN and infinities where they belong. Of a wrong output the\n"
      "cause is looked for: a dropped tail, a transposed matrix, a missing bias, sums in bf16, flushed subnormals, ...\n"
      "\n"
      "Examples:\n"
      "  signsplit golden --shape 256x1024 --batch 4 --out golden\n"
      "  signsplit check --golden golden --output my-y.npy\n"
      "  signsplit check --golden golden --output my-y.safetensors --tensor out --json -");
  command.add_option("--golden", options->golden, "What `signsplit golden` wrote: the folder or the file")
      ->type_name("PATH")
      ->required();
  command.add_option("--output", options->output, "The kernel's y [B, D], .npy f32 or safetensors")
      ->type_name("FILE")
      ->required();
  command.add_option("--tensor", options->tensor, "Name of the tensor in a safetensors output; default: y, or the only one")
      ->type_name("NAME");
  command.add_flag("--allow-bf16-output", options->allow_bf16, "y may have been rounded to bf16 (implied by a BF16 tensor)");
  command.add_flag("--no-hint", options->no_hint, "Do not look for the cause of a failure");
  command.add_option("--threads", options->threads, "Threads; 0: all")->type_name("T")->capture_default_str();
  add_json_option(command, context);
  on_run(command, context, [options, &context] { return run(*options, context); });
}

}  // namespace signsplit::tools
