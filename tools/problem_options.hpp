// --shape, --model, --dtype, --activation, --gated, --batch, --active: which FFN a command is about.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "signsplit/problem.hpp"
#include "signsplit/status.hpp"

namespace signsplit::tools {

struct ProblemOptions {
  std::string shape;        ///< "2048x8192"
  std::string model;        ///< a name of `signsplit models`
  std::string dtype = "bf16";
  std::string group = "0", arithmetic = "f32";  ///< of int8
  std::string activation;   ///< empty: relu, or the model's
  bool gated = false;
  std::string batch = "1";  ///< text, so that a bad number gets our message
  std::string active;       ///< empty: see default_active
};

/// Fraction of units taken to be active when neither --active nor a model says: usual for trained ReLU models.
inline constexpr double kDefaultActive = 0.1;

void add_problem_options(CLI::App& command, ProblemOptions& options);

struct ProblemChoice {
  Problem problem;
  double active = kDefaultActive;  ///< in (0, 1]
};
/// The problem that the options describe, or invalid_argument that names the option and the rule. Needs a shape or a
/// model, not both. reglu, swiglu and the like imply --gated. Where no unit can be closed (identity, gelu, ...) every one is active.
[[nodiscard]] Result<ProblemChoice> resolve(const ProblemOptions& options);

struct Shape {
  index_t d_model = 0, d_ff = 0;
};
/// "2048x8192" or "2048X8192": D, then F, both positive.
[[nodiscard]] std::optional<Shape> parse_shape(std::string_view text) noexcept;

/// An activation by name, or invalid_argument that lists the known names.
[[nodiscard]] Result<ParsedActivation> parse_activation_option(const std::string& text);

/// A whole decimal number without sign, and nothing else.
[[nodiscard]] std::optional<index_t> parse_count(std::string_view text) noexcept;

/// A positive decimal for an option: invalid_argument names option and rule. At most `limit`.
[[nodiscard]] Result<index_t> parse_extent(std::string_view option, std::string_view text, index_t limit = kMaxExtent);

}  // namespace signsplit::tools
