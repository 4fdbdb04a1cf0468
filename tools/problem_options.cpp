#include "tools/problem_options.hpp"

#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "signsplit/models.hpp"

namespace signsplit::tools {
namespace {

std::optional<double> parse_decimal(std::string_view text) noexcept {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Shape, activation and gate of the model or of --shape; the rest of the problem is left at its defaults.
Result<ProblemChoice> resolve_shape(const ProblemOptions& options) {
  if (options.shape.empty() == options.model.empty()) {
    return invalid_argument(options.shape.empty() ? "needs --shape DxF or --model NAME"
                                                  : "--shape and --model exclude each other");
  }
  ProblemChoice choice;
  if (!options.model.empty()) {
    const std::optional<Model> model = find_model(options.model);
    if (!model) {
      return invalid_argument(
          fmt::format("--model '{}' is not known; `signsplit models` lists the known ones", options.model));
    }
    choice.problem.d_model = model->d_model;
    choice.problem.d_ff = model->d_ff;
    choice.problem.activation = model->activation;
    choice.problem.gated = model->gated;
    if (model->reported_zeros > 0 && model->reported_zeros < 1) choice.active = 1 - model->reported_zeros;
    return choice;
  }
  const std::optional<Shape> shape = parse_shape(options.shape);
  if (!shape) {
    return invalid_argument(fmt::format(
        "--shape '{}' must be DxF, two positive whole numbers up to {}, for instance 2048x8192", options.shape, kMaxExtent));
  }
  choice.problem.d_model = shape->d_model;
  choice.problem.d_ff = shape->d_ff;
  return choice;
}

Result<double> resolve_active(const ProblemOptions& options, const ProblemChoice& choice) {
  const bool all_open = !closes_units(choice.problem.activation);
  if (options.active.empty()) return all_open ? 1.0 : choice.active;
  const std::optional<double> active = parse_decimal(options.active);
  if (!active || !(*active > 0 && *active <= 1)) {
    return invalid_argument(fmt::format("--active '{}' must be a fraction above 0 and up to 1", options.active));
  }
  if (all_open && *active != 1) {
    return invalid_argument(fmt::format("--active {} cannot be: with {} every unit is active", options.active,
                                        to_string(choice.problem.activation, choice.problem.gated)));
  }
  return *active;
}

}  // namespace

void add_problem_options(CLI::App& command, ProblemOptions& options) {
  const std::string group = "The FFN";
  command.add_option("--shape", options.shape, "d_model x d_ff, for instance 2048x8192")->type_name("DxF")->group(group);
  command.add_option("--model", options.model, "Shape and activation of a published model (see `signsplit models`)")
      ->type_name("NAME")
      ->group(group);
  command.add_option("--dtype", options.dtype, "Type of the weights: f32, bf16, f16 or int8")
      ->type_name("T")
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--group", options.group, "int8: weights along a stored row that share a scale, a multiple of 64; 0: the row")
      ->type_name("N")
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--arithmetic", options.arithmetic,
                  "f32, or w8a8: int8 weights, x and h rounded to int8 per token, integer sums")
      ->type_name("A")
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--activation", options.activation,
                  fmt::format("{}; default: relu, or the model's", kActivationNames))
      ->type_name("A")
      ->group(group);
  command.add_flag("--gated", options.gated, "With a gate matrix (reglu, drelu, geglu, geglu_tanh and swiglu imply it)")->group(group);
  command.add_option("--batch", options.batch, "Tokens computed together")
      ->type_name("B")
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--active", options.active,
                  fmt::format("Fraction of active units, 0 to 1; default: what is reported for the model, else {}; 1 for identity, gelu, "
                              "gelu_tanh and silu, which close none",
                              kDefaultActive))
      ->type_name("FRACTION")
      ->group(group);
}

std::optional<index_t> parse_count(std::string_view text) noexcept {
  if (text.empty() || text.front() < '0' || text.front() > '9') return std::nullopt;  // from_chars would take a sign
  index_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Result<index_t> parse_extent(std::string_view option, std::string_view text, index_t limit) {
  const std::optional<index_t> value = parse_count(text);
  if (!value || *value < 1 || *value > limit) {
    return invalid_argument(fmt::format("{} '{}' must be a whole number from 1 to {}", option, text, limit));
  }
  return *value;
}

std::optional<Shape> parse_shape(std::string_view text) noexcept {
  const std::size_t cross = text.find_first_of("xX");
  if (cross == std::string_view::npos) return std::nullopt;
  const auto d_model = parse_count(text.substr(0, cross)), d_ff = parse_count(text.substr(cross + 1));
  if (!d_model || !d_ff || *d_model < 1 || *d_ff < 1 || *d_model > kMaxExtent || *d_ff > kMaxExtent) return std::nullopt;
  return Shape{*d_model, *d_ff};
}

Result<ProblemChoice> resolve(const ProblemOptions& options) {
  Result<ProblemChoice> shaped = resolve_shape(options);
  if (!shaped) return shaped;
  ProblemChoice choice = *shaped;
  Problem& problem = choice.problem;

  const std::optional<DType> dtype = parse_dtype(options.dtype);
  if (!dtype) return invalid_argument(fmt::format("--dtype '{}' is not known; known are f32, bf16, f16, int8", options.dtype));
  problem.dtype = *dtype;
  const std::optional<index_t> scale_group = parse_count(options.group);
  if (!scale_group) return invalid_argument(fmt::format("--group '{}' must be a whole number", options.group));
  problem.group = *scale_group;
  const std::optional<Arithmetic> arithmetic = parse_arithmetic(options.arithmetic);
  if (!arithmetic) return invalid_argument(fmt::format("--arithmetic '{}' is not known; known are f32, w8a8", options.arithmetic));
  problem.arithmetic = *arithmetic;
  if (!options.activation.empty()) {
    const Result<ParsedActivation> activation = parse_activation_option(options.activation);
    if (!activation) return activation.status();
    problem.activation = activation->activation;
    problem.gated = problem.gated || activation->must_be_gated;
  }
  problem.gated = problem.gated || options.gated;
  const Result<index_t> batch = parse_extent("--batch", options.batch);
  if (!batch) return batch.status();
  problem.batch = *batch;
  const Result<double> active = resolve_active(options, choice);
  if (!active) return active.status();
  choice.active = *active;
  if (const Status status = validate(problem); !status) return status;
  return choice;
}

Result<ParsedActivation> parse_activation_option(const std::string& text) {
  const std::optional<ParsedActivation> activation = parse_activation(text);
  if (!activation) {
    return invalid_argument(fmt::format("--activation '{}' is not known; known are {} (T a decimal, not negative)", text, kActivationNames));
  }
  return *activation;
}

}  // namespace signsplit::tools
