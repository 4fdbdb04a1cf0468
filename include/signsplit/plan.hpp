// Plan: a schedule as plain data. It fixes every reduction order; with the weights and x it determines every output bit.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "signsplit/portability.hpp"
#include "signsplit/problem.hpp"
#include "signsplit/status.hpp"

namespace signsplit {

enum class Strategy : std::uint8_t {
  unfused,     ///< product 1 of all units, store h, barrier, product 2
  row_fused,   ///< per hidden tile: the whole K reduction, activation, product 2; h is never stored
  sign_split,  ///< per hidden tile and K tile: push interim activations into product 2, repair at the end of the tile
  certified,   ///< as row_fused with skip, but a low-precision plane of the first matrix proves most dead units dead first
};

/// What sign_split pushes for K tile t of unit j (docs/sign-split.md). `none` for the other strategies.
enum class Variant : std::uint8_t {
  none,
  interim,      ///< act(z_t): each tile's own partial sum, as if it were the whole
  streams,      ///< act(P_t), P the positive stream x⁺M⁺ + x⁻M⁻; repaired with the negative stream
  telescoping,  ///< act(s_t) − act(s_{t−1}) of the prefix sums s_t; the pushes add up to act(z) by themselves
  ignore,       ///< as interim, never repaired: wrong on purpose, to measure what the repair is worth
};

/// How sign_split repairs the units whose pushes do not add up to h. `none` for the other strategies, telescoping, ignore.
enum class Repair : std::uint8_t {
  none,
  selective,  ///< only wrong units: add (h − u)·W2[j]
  full,       ///< every unit, wrong or not: no branch, one more pass over W2
  redo,       ///< wrong units are recomputed from W1 in canonical order, then corrected
};

/// How the phases are started on a CPU.
enum class Launch : std::uint8_t {
  one_region,        ///< one parallel region, barriers between the phases
  region_per_phase,  ///< a fork and join for every phase, as two library calls would do
};

/// Where `certified` finds the full weights of the units that its plane could not prove dead. `none` for the others.
enum class Placement : std::uint8_t {
  none,
  beside,    ///< the original matrix, kept beside the plane
  residual,  ///< a residual plane that, with the first, restores every weight bit for bit
};

/// Partial accumulators of a dot product: partial p sums k ≡ p (mod 64), k ascending, one FMA each; then a pairwise tree
/// that folds the upper half onto the lower: 32, 16, 8, 4, 2, 1. 64 = 4 AVX-512 registers = 8 AVX2 registers = 2 values
/// per lane of a warp.
inline constexpr index_t kAccumulators = 64;

struct Plan {
  Strategy strategy = Strategy::row_fused;
  Variant variant = Variant::none;
  Repair repair = Repair::none;
  bool skip = false;  ///< Do not read row j of W2 when nothing of unit j is to be added (lossless).
  Launch launch = Launch::one_region;
  index_t accumulators = kAccumulators;  ///< Must be kAccumulators: the kernels implement no other number.
  index_t parts = 1;         ///< Contiguous ranges of hidden units, the leaves of y's reduction tree. In [1, F].
  index_t hidden_tile = 32;  ///< J, hidden units per tile. Does not change the bits of unfused and row_fused.
  index_t k_tile = 0;        ///< K tile in elements of D, a multiple of 64; 0 is the whole of D. sign_split: changes bits; certified: judges_again().
  index_t reduce_tile = 512; ///< Columns of y per item of the reduce phase, a multiple of 64. Never changes bits.
  index_t plane_bits = 0;    ///< certified: bits of a plane element, sign included, in [2, 8]; 0 for the others. Never changes bits of y.
  index_t plane_group = 0;   ///< certified: elements of D that share a scale and a residual norm, a multiple of 64; 0 for the others.
  Placement placement = Placement::none;  ///< certified: beside or residual. Never changes bits of y.

  friend constexpr bool operator==(const Plan&, const Plan&) = default;
};

/// Hidden tile sizes above this are refused: the executors keep a tile's state in scratch memory.
inline constexpr index_t kMaxHiddenTile = 1024;

/// Ok, or the broken rule in words: "plan.k_tile must be a multiple of 64 (got 100)".
/// On a gated FFN sign_split is defined as `telescoping` only: act(g)·u of a K tile is not a part of act(G)·U.
[[nodiscard]] Status validate(const Plan& plan, const Problem& problem);

/// A plan that is valid for the problem, and depends on nothing but its arguments: never on the machine, so that default
/// plans give the same bits everywhere. sign_split defaults to interim, selective, K tiles of D/2.
[[nodiscard]] Plan default_plan(const Problem& problem, Strategy strategy, bool skip = false);
[[nodiscard]] Plan default_sign_split_plan(const Problem& problem, Variant variant, Repair repair, bool skip = false,
                                           index_t k_tiles = 2);

/// Default plans of every schedule that is valid for the problem, each without and with skip: unfused, row_fused, certified
/// (with skip only), and every variant and repair of sign_split. `ignore`, which computes something else, only when asked for.
[[nodiscard]] std::vector<Plan> default_plans(const Problem& problem, bool with_ignore = true);

/// True for schedules that go over the weights without a barrier between the products.
[[nodiscard]] constexpr bool is_fused(const Plan& plan) { return plan.strategy != Strategy::unfused; }

/// Equal plans have equal hashes; stable across runs and platforms.
[[nodiscard]] std::uint64_t hash(const Plan& plan) noexcept;

/// JSON text of one line, every field present, keys in declaration order.
[[nodiscard]] std::string to_json(const Plan& plan);
/// The inverse. Missing keys keep their defaults; an unknown key, a wrong type or an unknown name is invalid_argument.
[[nodiscard]] Result<Plan> plan_from_json(std::string_view text);

[[nodiscard]] std::string_view to_string(Strategy) noexcept;
[[nodiscard]] std::string_view to_string(Variant) noexcept;
[[nodiscard]] std::string_view to_string(Repair) noexcept;
[[nodiscard]] std::string_view to_string(Launch) noexcept;
[[nodiscard]] std::string_view to_string(Placement) noexcept;
[[nodiscard]] std::optional<Strategy> parse_strategy(std::string_view) noexcept;
[[nodiscard]] std::optional<Variant> parse_variant(std::string_view) noexcept;
[[nodiscard]] std::optional<Repair> parse_repair(std::string_view) noexcept;
[[nodiscard]] std::optional<Launch> parse_launch(std::string_view) noexcept;
[[nodiscard]] std::optional<Placement> parse_placement(std::string_view) noexcept;

/// Short name of a plan's schedule for tables: "row_fused", "row_fused+skip", "sign_split/interim/selective", "certified".
[[nodiscard]] std::string label(const Plan& plan);

}  // namespace signsplit
