#include "tools/plan_options.hpp"

#include <fmt/format.h>

#include "tools/problem_options.hpp"

namespace signsplit::tools {
namespace {

bool has_tiling(const PlanOptions& options) {
  return !options.parts.empty() || !options.hidden_tile.empty() || !options.k_tile.empty();
}

bool has_sign_split_details(const PlanOptions& options) { return !options.variant.empty() || !options.repair.empty(); }

bool has_certificate(const PlanOptions& options) {
  return !options.plane_bits.empty() || !options.plane_group.empty() || !options.placement.empty();
}

Result<PlanChoice> resolve_plan_json(const PlanOptions& options, const Problem& problem) {
  if (options.strategy != "auto" || has_sign_split_details(options) || options.skip || has_tiling(options) ||
      has_certificate(options)) {
    return invalid_argument("--plan says everything: it excludes --strategy, --variant, --repair, --skip, --parts, "
                            "--hidden-tile, --k-tile, --plane-bits, --plane-group and --placement");
  }
  const Result<Plan> plan = plan_from_json(options.plan);
  if (!plan) return invalid_argument("--plan: " + plan.message());
  if (const Status status = validate(*plan, problem); !status) return invalid_argument("--plan: " + status.message());
  return PlanChoice{PlanChoice::Kind::plan, *plan};
}

/// auto and the references: names that are no plans.
Result<PlanChoice> resolve_without_plan(const PlanOptions& options, PlanChoice::Kind kind) {
  if (has_sign_split_details(options) || has_tiling(options) || has_certificate(options)) {
    return invalid_argument(fmt::format("--variant, --repair, --parts, --hidden-tile, --k-tile, --plane-bits, --plane-group and "
                                        "--placement do not go with --strategy {}", options.strategy));
  }
  if (options.skip && kind != PlanChoice::Kind::automatic) {
    return invalid_argument(fmt::format("--skip does not go with --strategy {}: it computes every row", options.strategy));
  }
  PlanChoice choice;
  choice.kind = kind;
  choice.plan.skip = options.skip;
  return choice;
}

Result<Plan> sign_split_plan(const PlanOptions& options, const Problem& problem) {
  Variant variant = problem.gated ? Variant::telescoping : Variant::interim;
  if (!options.variant.empty()) {
    const std::optional<Variant> parsed = parse_variant(options.variant);
    if (!parsed || *parsed == Variant::none) {
      return invalid_argument(fmt::format(
          "--variant '{}' is not known; known are interim, streams, telescoping, ignore", options.variant));
    }
    variant = *parsed;
  }
  Repair repair = variant == Variant::interim || variant == Variant::streams ? Repair::selective : Repair::none;
  if (!options.repair.empty()) {
    const std::optional<Repair> parsed = parse_repair(options.repair);
    if (!parsed) {
      return invalid_argument(
          fmt::format("--repair '{}' is not known; known are selective, full, redo, none", options.repair));
    }
    repair = *parsed;
  }
  return default_sign_split_plan(problem, variant, repair, options.skip);
}

Status apply_tiling(const PlanOptions& options, Plan& plan) {
  if (!options.parts.empty()) {
    const Result<index_t> parts = parse_extent("--parts", options.parts);
    if (!parts) return parts.status();
    plan.parts = *parts;
  }
  if (!options.hidden_tile.empty()) {
    const Result<index_t> tile = parse_extent("--hidden-tile", options.hidden_tile, kMaxHiddenTile);
    if (!tile) return tile.status();
    plan.hidden_tile = *tile;
  }
  if (!options.k_tile.empty()) {
    const std::optional<index_t> tile = parse_count(options.k_tile);
    if (!tile || *tile > kMaxExtent) {
      return invalid_argument(
          fmt::format("--k-tile '{}' must be a multiple of 64, or 0 for the whole of D", options.k_tile));
    }
    plan.k_tile = *tile;
  }
  return {};
}

Status apply_certificate(const PlanOptions& options, Plan& plan) {
  if (!has_certificate(options)) return {};
  if (plan.strategy != Strategy::certified) {
    return invalid_argument("--plane-bits, --plane-group and --placement go with --strategy certified only");
  }
  if (!options.plane_bits.empty()) {
    const Result<index_t> bits = parse_extent("--plane-bits", options.plane_bits, 8);
    if (!bits) return bits.status();
    plan.plane_bits = *bits;
  }
  if (!options.plane_group.empty()) {
    const Result<index_t> group = parse_extent("--plane-group", options.plane_group);
    if (!group) return group.status();
    plan.plane_group = *group;
  }
  if (!options.placement.empty()) {
    const std::optional<Placement> placement = parse_placement(options.placement);
    if (!placement || *placement == Placement::none) {
      return invalid_argument(fmt::format("--placement '{}' is not known; known are beside, residual", options.placement));
    }
    plan.placement = *placement;
  }
  return {};
}

}  // namespace

void add_plan_options(CLI::App& command, PlanOptions& options) {
  const std::string group = "The schedule";
  command.add_option("--strategy", options.strategy, "One of " + known_strategies())
      ->type_name("S")
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--variant", options.variant,
                  "What sign_split pushes: interim, streams, telescoping, ignore; default: interim, gated telescoping")
      ->type_name("V")
      ->group(group);
  command
      .add_option("--repair", options.repair,
                  "How sign_split repairs: selective, full, redo; default: selective where the variant needs repair")
      ->type_name("R")
      ->group(group);
  command.add_flag("--skip", options.skip, "Do not read the rows of W2 that nothing is added from (lossless)")->group(group);
  command.add_option("--parts", options.parts, "Ranges of hidden units: the leaves of y's sum")->type_name("N")->group(group);
  command.add_option("--hidden-tile", options.hidden_tile, "Hidden units per tile")->type_name("N")->group(group);
  command.add_option("--k-tile", options.k_tile, "Elements of D per tile, a multiple of 64; 0: all of D")
      ->type_name("N")
      ->group(group);
  command
      .add_option("--plane-bits", options.plane_bits, "certified: bits of the plane's elements, 2 to 8; default: 8")
      ->type_name("N")
      ->group(group);
  command
      .add_option("--plane-group", options.plane_group,
                  "certified: elements of D that share a scale, a multiple of 64; default: 64")
      ->type_name("N")
      ->group(group);
  command
      .add_option("--placement", options.placement,
                  "certified: where the weights of the units left are: beside (the original) or residual; default: beside")
      ->type_name("P")
      ->group(group);
  command.add_option("--plan", options.plan, "The whole plan as JSON, as printed by run --json; excludes the others")
      ->type_name("JSON")
      ->group(group);
}

std::string known_strategies() { return "auto, unfused, row_fused, sign_split, certified, reference, reference_composite"; }

Result<PlanChoice> resolve(const PlanOptions& options, const Problem& problem) {
  if (!options.plan.empty()) return resolve_plan_json(options, problem);
  if (options.strategy == "auto") return resolve_without_plan(options, PlanChoice::Kind::automatic);
  if (options.strategy == "reference") return resolve_without_plan(options, PlanChoice::Kind::reference_staged);
  if (options.strategy == "reference_composite") {
    return resolve_without_plan(options, PlanChoice::Kind::reference_composite);
  }
  if (options.strategy == "folded") {
    return unsupported("--strategy folded is not offered: W2·W1 as one matrix needs z and the rows of every closed unit back, "
                       "and so reads less than row_fused with --skip only where some 70 % of the units are open "
                       "(docs/studies/folded.md)");
  }
  const std::optional<Strategy> strategy = parse_strategy(options.strategy);
  if (!strategy) {
    return invalid_argument(fmt::format("--strategy '{}' is not known; known are {}", options.strategy, known_strategies()));
  }
  PlanChoice choice{PlanChoice::Kind::plan, {}};
  if (*strategy == Strategy::sign_split) {
    const Result<Plan> plan = sign_split_plan(options, problem);
    if (!plan) return plan.status();
    choice.plan = *plan;
  } else {
    if (has_sign_split_details(options)) {
      return invalid_argument("--variant and --repair go with --strategy sign_split only");
    }
    choice.plan = default_plan(problem, *strategy, options.skip);
  }
  if (const Status status = apply_tiling(options, choice.plan); !status) return status;
  if (const Status status = apply_certificate(options, choice.plan); !status) return status;
  if (const Status status = validate(choice.plan, problem); !status) return status;
  return choice;
}

}  // namespace signsplit::tools
