#include "signsplit/plan.hpp"

#include <algorithm>
#include <array>

#include "signsplit/residual.hpp"

namespace signsplit {
namespace {

template <class Enum, std::size_t n>
using Names = std::array<std::pair<Enum, std::string_view>, n>;

constexpr Names<Strategy, 4> kStrategies{{{Strategy::unfused, "unfused"},
                                          {Strategy::row_fused, "row_fused"},
                                          {Strategy::sign_split, "sign_split"},
                                          {Strategy::certified, "certified"}}};
constexpr Names<Variant, 5> kVariants{{{Variant::none, "none"},
                                       {Variant::interim, "interim"},
                                       {Variant::streams, "streams"},
                                       {Variant::telescoping, "telescoping"},
                                       {Variant::ignore, "ignore"}}};
constexpr Names<Repair, 4> kRepairs{
    {{Repair::none, "none"}, {Repair::selective, "selective"}, {Repair::full, "full"}, {Repair::redo, "redo"}}};
constexpr Names<Placement, 3> kPlacements{
    {{Placement::none, "none"}, {Placement::beside, "beside"}, {Placement::residual, "residual"}}};
constexpr Names<Launch, 2> kLaunches{{{Launch::one_region, "one_region"}, {Launch::region_per_phase, "region_per_phase"}}};

/// Empty for a value that is none of the enumerators.
template <class Enum, std::size_t n>
std::string_view name_of(const Names<Enum, n>& names, Enum value) noexcept {
  for (const auto& [one, name] : names) {
    if (one == value) return name;
  }
  return {};
}

template <class Enum, std::size_t n>
std::optional<Enum> find_name(const Names<Enum, n>& names, std::string_view text) noexcept {
  for (const auto& [one, name] : names) {
    if (name == text) return one;
  }
  return std::nullopt;
}

Status broken(std::string_view field, const std::string& rule, const std::string& got) {
  return invalid_argument("plan." + std::string(field) + " must be " + rule + " (got " + got + ")");
}
Status broken(std::string_view field, const std::string& rule, index_t got) {
  return broken(field, rule, std::to_string(got));
}

Status validate_names(const Plan& plan) {
  if (to_string(plan.strategy).empty()) return broken("strategy", "a strategy", static_cast<index_t>(plan.strategy));
  if (to_string(plan.variant).empty()) return broken("variant", "a variant", static_cast<index_t>(plan.variant));
  if (to_string(plan.repair).empty()) return broken("repair", "a repair", static_cast<index_t>(plan.repair));
  if (to_string(plan.launch).empty()) return broken("launch", "a launch", static_cast<index_t>(plan.launch));
  if (to_string(plan.placement).empty()) return broken("placement", "a placement", static_cast<index_t>(plan.placement));
  return {};
}

bool repairs_itself(Variant variant) { return variant == Variant::telescoping || variant == Variant::ignore; }

Status validate_schedule(const Plan& plan, const Problem& problem) {
  const std::string strategy(to_string(plan.strategy)), variant(to_string(plan.variant)), repair(to_string(plan.repair));
  if (plan.strategy != Strategy::sign_split) {
    if (plan.variant != Variant::none) return broken("variant", "none for " + strategy, variant);
    if (plan.repair != Repair::none) return broken("repair", "none for " + strategy, repair);
    return {};
  }
  if (is_smooth(problem.activation)) {
    return invalid_argument("plan.strategy sign_split is not defined for the activation " + to_string(problem.activation, problem.gated) +
                            ": no sign of a sum tells what a K tile contributes to h, and every tile would push every unit");
  }
  if (plan.variant == Variant::none) {
    return broken("variant", "interim, streams, telescoping or ignore for sign_split", variant);
  }
  if (problem.gated && plan.variant != Variant::telescoping) {
    return broken("variant", "telescoping on a gated FFN, because act(g)*u of a K tile is not a part of act(G)*U", variant);
  }
  if (repairs_itself(plan.variant)) {
    return plan.repair == Repair::none ? Status{} : broken("repair", "none for variant " + variant, repair);
  }
  if (plan.repair == Repair::none) {
    return broken("repair", "selective, full or redo for variant " + variant, repair);
  }
  return {};
}

Status validate_arithmetic(const Plan& plan, const Problem& problem) {
  if (problem.arithmetic == Arithmetic::f32 || plan.strategy == Strategy::unfused) return {};
  return broken("strategy", "unfused for the arithmetic w8a8, where the scale of h is known only when all of h is",
                std::string(to_string(plan.strategy)));
}

/// What a residual needs (residual.hpp).
Status validate_residual(const Plan& plan, const Problem& problem) {
  if (problem.dtype == DType::int8) return broken("placement", "beside for int8 weights, which are as small as the plane", "residual");
  if (plan.plane_bits != 8) return broken("plane_bits", "8 for placement residual", plan.plane_bits);
  if (round_up(problem.d_model, kAccumulators) > kMaxResidualColumns) {
    return broken("placement", "beside where D is above " + std::to_string(kMaxResidualColumns), "residual");
  }
  return {};
}

/// The fields that only `certified` has.
Status validate_certificate(const Plan& plan, const Problem& problem) {
  const std::string placement(to_string(plan.placement));
  if (plan.strategy != Strategy::certified) {
    const std::string strategy(to_string(plan.strategy));
    if (plan.plane_bits != 0) return broken("plane_bits", "0 for " + strategy, plan.plane_bits);
    if (plan.plane_group != 0) return broken("plane_group", "0 for " + strategy, plan.plane_group);
    if (plan.placement != Placement::none) return broken("placement", "none for " + strategy, placement);
    return {};
  }
  if (!plan.skip) return broken("skip", "true for certified, whose dead units are skipped", "false");
  if (!closes_units(problem.activation)) {
    return invalid_argument("plan.strategy certified is not defined for the activation " +
                            to_string(problem.activation, problem.gated) + ": it has no dead units");
  }
  if (plan.plane_bits < 2 || plan.plane_bits > 8) return broken("plane_bits", "in [2, 8] for certified", plan.plane_bits);
  if (plan.plane_group < kAccumulators || plan.plane_group > kMaxPlaneGroup || plan.plane_group % kAccumulators != 0) {
    return broken("plane_group", "a multiple of 64 in [64, " + std::to_string(kMaxPlaneGroup) + "] for certified", plan.plane_group);
  }
  if (plan.placement == Placement::none) return broken("placement", "beside or residual for certified", placement);
  return plan.placement == Placement::residual ? validate_residual(plan, problem) : Status{};
}

Status validate_sizes(const Plan& plan, const Problem& problem) {
  const std::string largest = std::to_string(kMaxExtent);
  if (plan.accumulators != kAccumulators) {
    return broken("accumulators", std::to_string(kAccumulators), plan.accumulators);
  }
  if (plan.parts < 1 || plan.parts > problem.d_ff) {
    return broken("parts", "in [1, " + std::to_string(problem.d_ff) + "], one hidden unit or more each", plan.parts);
  }
  if (plan.hidden_tile < 1 || plan.hidden_tile > kMaxHiddenTile) {
    return broken("hidden_tile", "in [1, " + std::to_string(kMaxHiddenTile) + "]", plan.hidden_tile);
  }
  if (plan.k_tile < 0) return broken("k_tile", "0 (the whole of D) or positive", plan.k_tile);
  if (plan.k_tile % kAccumulators != 0) return broken("k_tile", "a multiple of 64", plan.k_tile);
  if (plan.k_tile > kMaxExtent) return broken("k_tile", "at most " + largest, plan.k_tile);
  if (plan.reduce_tile <= 0) return broken("reduce_tile", "positive", plan.reduce_tile);
  if (plan.reduce_tile % kAccumulators != 0) return broken("reduce_tile", "a multiple of 64", plan.reduce_tile);
  if (plan.reduce_tile > kMaxExtent) return broken("reduce_tile", "at most " + largest, plan.reduce_tile);
  return {};
}

/// Units of the longest of equal tiles, `most` at most. 4096x11008 (344 a part) took 1 % less time with skip at 10 % in tiles of 344 than in
/// ones of 256 and 88, 4096x16384 0.5 to 1 % less in tiles of 512 than of 256.
index_t even_tiles(index_t units, index_t most) { return units < 1 ? 1 : ceil_div(units, ceil_div(units, most)); }

/// The K tile with which certified judges rows again in their middle, 0 where that does not pay: halves below 2 KiB are read no faster than
/// whole rows. Thirds and quarters save more bytes and less time.
index_t half_row(const Problem& problem) {
  const index_t half = round_up(ceil_div(problem.d_model, 2), kAccumulators);
  const bool pays = problem.batch == 1 && problem.dtype != DType::int8 && half * dtype_bytes(problem.dtype) >= 2048;
  return pays ? half : 0;
}

}  // namespace

Status validate(const Plan& plan, const Problem& problem) {
  if (Status status = validate(problem); !status) return status;
  if (Status status = validate_names(plan); !status) return status;
  if (Status status = validate_schedule(plan, problem); !status) return status;
  if (Status status = validate_arithmetic(plan, problem); !status) return status;
  if (Status status = validate_certificate(plan, problem); !status) return status;
  return validate_sizes(plan, problem);
}

Plan default_plan(const Problem& problem, Strategy strategy, bool skip) {
  if (strategy == Strategy::sign_split) {
    return problem.gated ? default_sign_split_plan(problem, Variant::telescoping, Repair::none, skip)
                         : default_sign_split_plan(problem, Variant::interim, Repair::selective, skip);
  }
  Plan plan;
  plan.strategy = strategy;
  plan.skip = skip;
  // 256 units make a part worth its partial y and its turn in the tree; 32 parts feed the cores of most machines.
  plan.parts = std::clamp<index_t>(problem.d_ff / 256, 1, 32);
  // Long tiles change less often between the two matrices: 128 units took 8 % less time than 32 (2-core Xeon virtual machine), 256
  // 1 to 3 % less than 128, from memory and from the last-level cache (2-core Zen 5 virtual machine).
  plan.hidden_tile = even_tiles(ceil_div(problem.d_ff, plan.parts), problem.batch > 1 ? 256 : kMaxHiddenTile);
  if (strategy == Strategy::certified) {
    plan.skip = true;
    // Every tile goes from the plane to the rows that are left and back: 512 units took 6 % less time than 128.
    plan.hidden_tile = even_tiles(ceil_div(problem.d_ff, plan.parts), 512);
    plan.plane_bits = 8;
    plan.plane_group = kAccumulators;
    plan.placement = Placement::beside;
    plan.k_tile = half_row(problem);
  }
  return plan;
}

Plan default_sign_split_plan(const Problem& problem, Variant variant, Repair repair, bool skip, index_t k_tiles) {
  Plan plan = default_plan(problem, Strategy::row_fused, skip);
  plan.strategy = Strategy::sign_split;
  plan.hidden_tile = std::min<index_t>(plan.hidden_tile, 32);  // its rows of W2 are read again, from the second-level cache
  plan.variant = variant;
  plan.repair = repair;
  const index_t d_padded = round_up(problem.d_model, kAccumulators);
  plan.k_tile = round_up(ceil_div(d_padded, std::clamp<index_t>(k_tiles, 1, kMaxExtent)), kAccumulators);
  return plan;
}

std::vector<Plan> default_plans(const Problem& problem, bool with_ignore) {
  std::vector<Plan> plans;
  const auto add = [&](const Plan& plan) {
    if (validate(plan, problem).ok()) plans.push_back(plan);
  };
  for (const Strategy strategy : {Strategy::unfused, Strategy::row_fused}) {
    for (const bool skip : {false, true}) add(default_plan(problem, strategy, skip));
  }
  add(default_plan(problem, Strategy::certified));
  for (const Variant variant : {Variant::interim, Variant::streams, Variant::telescoping, Variant::ignore}) {
    if (variant == Variant::ignore && !with_ignore) continue;
    for (const Repair repair : {Repair::none, Repair::selective, Repair::full, Repair::redo}) {
      for (const bool skip : {false, true}) add(default_sign_split_plan(problem, variant, repair, skip));
    }
  }
  return plans;
}

std::uint64_t hash(const Plan& plan) noexcept {
  std::vector<std::uint64_t> fields{static_cast<std::uint64_t>(plan.strategy), static_cast<std::uint64_t>(plan.variant),
                                  static_cast<std::uint64_t>(plan.repair),   static_cast<std::uint64_t>(plan.skip),
                                  static_cast<std::uint64_t>(plan.launch),   static_cast<std::uint64_t>(plan.accumulators),
                                  static_cast<std::uint64_t>(plan.parts),    static_cast<std::uint64_t>(plan.hidden_tile),
                                  static_cast<std::uint64_t>(plan.k_tile),   static_cast<std::uint64_t>(plan.reduce_tile)};
  if (plan.strategy == Strategy::certified) {  // only here, so that the other plans keep the hashes they always had
    fields.insert(fields.end(), {static_cast<std::uint64_t>(plan.plane_bits), static_cast<std::uint64_t>(plan.plane_group),
                                 static_cast<std::uint64_t>(plan.placement)});
  }
  std::uint64_t value = 0xcbf29ce484222325u;  // FNV-1a, 64 bits, over the little-endian bytes of the fields
  for (const std::uint64_t field : fields) {
    for (int shift = 0; shift < 64; shift += 8) value = (value ^ ((field >> shift) & 0xffu)) * 0x100000001b3u;
  }
  return value;
}

std::string_view to_string(Strategy strategy) noexcept { return name_of(kStrategies, strategy); }
std::string_view to_string(Variant variant) noexcept { return name_of(kVariants, variant); }
std::string_view to_string(Repair repair) noexcept { return name_of(kRepairs, repair); }
std::string_view to_string(Placement placement) noexcept { return name_of(kPlacements, placement); }
std::string_view to_string(Launch launch) noexcept { return name_of(kLaunches, launch); }
std::optional<Strategy> parse_strategy(std::string_view text) noexcept { return find_name(kStrategies, text); }
std::optional<Variant> parse_variant(std::string_view text) noexcept { return find_name(kVariants, text); }
std::optional<Repair> parse_repair(std::string_view text) noexcept { return find_name(kRepairs, text); }
std::optional<Placement> parse_placement(std::string_view text) noexcept { return find_name(kPlacements, text); }
std::optional<Launch> parse_launch(std::string_view text) noexcept { return find_name(kLaunches, text); }

std::string label(const Plan& plan) {
  std::string text(to_string(plan.strategy));
  if (plan.variant != Variant::none) text.append("/").append(to_string(plan.variant));
  if (plan.repair != Repair::none) text.append("/").append(to_string(plan.repair));
  if (plan.placement == Placement::residual) text.append("/residual");
  if (plan.skip && plan.strategy != Strategy::certified) text.append("+skip");  // certified always skips
  return text;
}

}  // namespace signsplit
