// The walk: the one place that knows a loop order. It turns a Plan into the ordered tile events of one work item, and
// hands them to a sink: the CPU executor's sink runs kernels, the GPU's does so on the device, the simulator's charges
// bytes and time. Data-dependent choices (which rows to skip or to repair) belong to the sink, never to the walk.
//
// A plan runs as a sequence of phases with a barrier between them. A phase consists of independent items: the parts
// (ranges of hidden units) of a product phase, the column slices of the reduction. A worker takes any item, in any order: no bit depends
// on it. Two workers may take a part one after the other, the first some units from its beginning on, the second the rest.
//
//   unfused      first_product | second_product | reduce
//   row_fused    fused                          | reduce
//   sign_split   fused                          | reduce
//   certified    fused                          | reduce
#pragma once

#include "signsplit/plan.hpp"
#include "signsplit/portability.hpp"

namespace signsplit {

/// Hidden units [begin, end).
struct HiddenRange {
  index_t begin = 0, end = 0;
  SIGNSPLIT_HD constexpr index_t size() const { return end - begin; }
  friend constexpr bool operator==(const HiddenRange&, const HiddenRange&) = default;
};

/// Elements [begin, end) of the padded reduction index of product 1; begin and end are multiples of 64.
struct KRange {
  index_t begin = 0, end = 0;
  bool first = true, last = true;  ///< first and last K tile of their hidden tile
  SIGNSPLIT_HD constexpr index_t size() const { return end - begin; }
  friend constexpr bool operator==(const KRange&, const KRange&) = default;
};

/// Columns [begin, end) of the padded y; multiples of 64.
struct ColumnRange {
  index_t begin = 0, end = 0;
  SIGNSPLIT_HD constexpr index_t size() const { return end - begin; }
  friend constexpr bool operator==(const ColumnRange&, const ColumnRange&) = default;
};

/// What the walk needs to know of a problem.
struct WalkShape {
  index_t d_padded = 0;  ///< D rounded up to a multiple of 64
  index_t d_ff = 0;
};
SIGNSPLIT_HD constexpr WalkShape walk_shape(const Problem& problem) {
  return {round_up(problem.d_model, kAccumulators), problem.d_ff};
}

enum class Phase : std::uint8_t {
  first_product,   ///< product 1, activation, store h
  second_product,  ///< load h, product 2
  fused,           ///< both, tile by tile
  reduce,          ///< partial y of all parts → y
};

SIGNSPLIT_HD constexpr int phase_count(const Plan& plan) { return plan.strategy == Strategy::unfused ? 3 : 2; }

/// The kind of phase `index`, 0 ≤ index < phase_count(plan).
SIGNSPLIT_HD constexpr Phase phase_at(const Plan& plan, int index) {
  if (index + 1 == phase_count(plan)) return Phase::reduce;
  if (plan.strategy != Strategy::unfused) return Phase::fused;
  return index == 0 ? Phase::first_product : Phase::second_product;
}

/// Number of independent items of a phase.
SIGNSPLIT_HD constexpr index_t item_count(const Plan& plan, WalkShape shape, Phase phase) {
  return phase == Phase::reduce ? ceil_div(shape.d_padded, plan.reduce_tile) : plan.parts;
}

/// The hidden units of a part: F units dealt as evenly as can be, earlier parts one longer.
SIGNSPLIT_HD constexpr HiddenRange part_range(const Plan& plan, WalkShape shape, index_t part) {
  const index_t base = shape.d_ff / plan.parts, longer = shape.d_ff % plan.parts;
  const index_t begin = part * base + (part < longer ? part : longer);
  return {begin, begin + base + (part < longer ? 1 : 0)};
}

SIGNSPLIT_HD constexpr ColumnRange reduce_range(const Plan& plan, WalkShape shape, index_t item) {
  const index_t begin = item * plan.reduce_tile, end = begin + plan.reduce_tile;
  return {begin, end < shape.d_padded ? end : shape.d_padded};
}

/// K tiles per hidden tile.
SIGNSPLIT_HD constexpr index_t k_tile_count(const Plan& plan, WalkShape shape) {
  return plan.k_tile == 0 ? 1 : ceil_div(shape.d_padded, plan.k_tile);
}

SIGNSPLIT_HD constexpr KRange k_range(const Plan& plan, WalkShape shape, index_t tile) {
  const index_t count = k_tile_count(plan, shape), size = plan.k_tile == 0 ? shape.d_padded : plan.k_tile;
  const index_t begin = tile * size, end = begin + size;
  return {begin, end < shape.d_padded ? end : shape.d_padded, tile == 0, tile + 1 == count};
}

/// certified: whether a row that the plane leaves is read by K tiles, and judged again before each but the first, by its sum up to there
/// and the plane's bound of the rest. For one token, and weights wider than the plane, if K tiles begin with groups of the plane; else
/// such rows are read whole, whatever k_tile is. The GPU always reads them whole.
SIGNSPLIT_HD constexpr bool judges_again(const Plan& plan, const Problem& problem) {
  return plan.strategy == Strategy::certified && plan.placement == Placement::beside && problem.batch == 1 &&
         problem.dtype != DType::int8 && k_tile_count(plan, walk_shape(problem)) > 1 && plan.k_tile % plan.plane_group == 0;
}

/// What a sink must offer. Events arrive in exactly the order in which the work has to appear to be done.
///   begin_part(part, phase)    start of an item of a product phase: x is loaded; but for first_product, y_part = +0
///   certify(hidden)            certified: which units of the tile are proven dead; the up_tile events that follow are of the others
///   up_tile(hidden, k)         partial sums of product 1 (gate and up); sums continue from tile to tile of K, except
///                              under sign_split, where each K tile has sums of its own
///   activate(hidden)           h of a tile whose K reduction is complete: these are the coefficients of the next down_tile
///   push(hidden, k)            sign_split: the coefficients to push for this K tile
///   down_tile(hidden)          y_part += coefficient_j · W2[j], j ascending
///   correct(hidden)            sign_split: settle signs in doubt, repair: y_part += (h_j − u_j) · W2[j]
///   store_h(hidden), load_h(hidden)
///   reduce(columns)            y = tree over parts of y_part, + b2
#if defined(__cpp_concepts)
template <class S>
concept WalkSink = requires(S& sink, index_t part, Phase phase, HiddenRange hidden, KRange k, ColumnRange columns) {
  sink.begin_part(part, phase);
  sink.certify(hidden);
  sink.up_tile(hidden, k);
  sink.activate(hidden);
  sink.push(hidden, k);
  sink.down_tile(hidden);
  sink.correct(hidden);
  sink.store_h(hidden);
  sink.load_h(hidden);
  sink.reduce(columns);
};
#define SIGNSPLIT_WALK_SINK WalkSink
#else
#define SIGNSPLIT_WALK_SINK class
#endif

/// Sends the events of some units of an item of a product phase to the sink: `units` is all of the part's range, or a beginning of it, or the
/// rest. Tiles end where the part's do. Where sign_split is cut, it is at the border of two tiles: else its sums have another order.
#if defined(__CUDACC__)
#pragma nv_exec_check_disable  // a sink may exist on one side only: on the device, its events are device functions
#endif
template <SIGNSPLIT_WALK_SINK Sink>
SIGNSPLIT_HD constexpr void walk_units(const Plan& plan, WalkShape shape, Phase phase, index_t item, HiddenRange units, Sink& sink) {
  const index_t part_begin = part_range(plan, shape, item).begin;
  const index_t k_tiles = k_tile_count(plan, shape);
  sink.begin_part(item, phase);
  for (index_t j = units.begin, end = 0; j < units.end; j = end) {
    end = j + plan.hidden_tile - (j - part_begin) % plan.hidden_tile;
    end = end < units.end ? end : units.end;
    const HiddenRange hidden{j, end};
    if (phase == Phase::second_product) {
      sink.load_h(hidden);
      sink.down_tile(hidden);
      continue;
    }
    if (plan.strategy == Strategy::certified) sink.certify(hidden);
    for (index_t t = 0; t < k_tiles; ++t) {
      const KRange k = k_range(plan, shape, t);
      sink.up_tile(hidden, k);
      if (plan.strategy == Strategy::sign_split) {
        sink.push(hidden, k);
        sink.down_tile(hidden);
      }
    }
    if (plan.strategy == Strategy::sign_split) {
      sink.correct(hidden);
      continue;
    }
    sink.activate(hidden);
    if (phase == Phase::fused) {
      sink.down_tile(hidden);
    } else {
      sink.store_h(hidden);
    }
  }
}

/// Sends the events of one item of one phase to the sink. The plan must be valid for the problem.
#if defined(__CUDACC__)
#pragma nv_exec_check_disable
#endif
template <SIGNSPLIT_WALK_SINK Sink>
SIGNSPLIT_HD constexpr void walk(const Plan& plan, WalkShape shape, Phase phase, index_t item, Sink& sink) {
  if (phase == Phase::reduce) {
    sink.reduce(reduce_range(plan, shape, item));
  } else {
    walk_units(plan, shape, phase, item, part_range(plan, shape, item), sink);
  }
}

}  // namespace signsplit
