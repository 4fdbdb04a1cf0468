// --strategy, --variant, --repair, --skip, --parts, --hidden-tile, --k-tile, --plane-bits, --plane-group, --placement, --plan:
// which schedule runs.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "signsplit/plan.hpp"
#include "signsplit/status.hpp"

namespace signsplit::tools {

struct PlanOptions {
  std::string strategy = "auto";
  std::string variant = {}, repair = {};  ///< empty: the strategy's default
  bool skip = false;
  std::string parts = {}, hidden_tile = {}, k_tile = {};  ///< empty: the default plan's
  std::string plane_bits = {}, plane_group = {}, placement = {};  ///< certified; empty: the default plan's
  std::string plan = {};  ///< JSON; excludes all others
};

void add_plan_options(CLI::App& command, PlanOptions& options);

struct PlanChoice {
  enum class Kind {
    automatic,            ///< the planner chooses; `plan` is not set
    plan,
    reference_staged,     ///< no plan: the exact reference
    reference_composite,
  };
  Kind kind = Kind::automatic;
  Plan plan;
};
/// The names that --strategy takes, for messages.
[[nodiscard]] std::string known_strategies();

/// The choice, valid for the problem; or invalid_argument that names the option and the rule.
[[nodiscard]] Result<PlanChoice> resolve(const PlanOptions& options, const Problem& problem);

}  // namespace signsplit::tools
