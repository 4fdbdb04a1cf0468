// In which order a block goes through the tiles of its parts: one place for the producer and the consumers, so that both
// see the same chunks in the same order. The tiles themselves come from the walk.
//
// With skip, a step that reads selected rows only runs one round later than the step that selects them: the walk's
//   up(0) activate(0) down(0) up(1) activate(1) down(1) ...
// becomes the rounds
//   up(0) | up(1) down(0) | up(2) down(1) | ...                      (lag 1)
//   gate(0) | gate(1) up(0) | gate(2) up(1) down(0) | ...            (lag 2, gated: up rows are selected too)
// and under certified the plane goes one round before all that:
//   plane(0) | plane(1) up(0) | plane(2) up(1) down(0) | ...         (lag 2; gated: 3)
// and while the active rows of a tile are found, the copies of the next tile's rows are under way. Every sum keeps its
// order. K tiles are joined: no bit of these strategies depends on them.
#pragma once

#include "shared_state.hpp"

namespace signsplit::gpu {

/// A sink that remembers the n-th tile of a walk, and counts the events that Statistics::tiles counts, and the scales of a row
/// of int8 weights that a tile's K tiles read.
class TileFinder {
 public:
  SIGNSPLIT_DEVICE explicit TileFinder(const Problem& problem, int wanted = -1) : problem_(problem), wanted_(wanted) {}
  [[nodiscard]] SIGNSPLIT_DEVICE int scales() const { return scales_; }
  [[nodiscard]] SIGNSPLIT_DEVICE HiddenRange found() const { return found_; }
  [[nodiscard]] SIGNSPLIT_DEVICE int events() const { return events_; }
  [[nodiscard]] SIGNSPLIT_DEVICE int count() const { return seen_; }
  /// sign_split, where a tile comes once for every K tile.
  [[nodiscard]] SIGNSPLIT_DEVICE KRange k() const { return k_; }

  SIGNSPLIT_DEVICE void begin_part(index_t, Phase) {}
  SIGNSPLIT_DEVICE void certify(HiddenRange) {}
  SIGNSPLIT_DEVICE void up_tile(HiddenRange, KRange k) {
    ++events_;
    if (seen_ == 0) scales_ += static_cast<int>(scale_count(problem_, k.begin, k.end));
  }
  SIGNSPLIT_DEVICE void activate(HiddenRange) {}
  SIGNSPLIT_DEVICE void push(HiddenRange, KRange k) {
    if (seen_ == wanted_) k_ = k;
  }
  SIGNSPLIT_DEVICE void correct(HiddenRange) {}
  SIGNSPLIT_DEVICE void load_h(HiddenRange) {}
  SIGNSPLIT_DEVICE void reduce(ColumnRange) {}
  SIGNSPLIT_DEVICE void down_tile(HiddenRange hidden) {
    ++events_;
    tile(hidden);
  }
  SIGNSPLIT_DEVICE void store_h(HiddenRange hidden) { tile(hidden); }

 private:
  SIGNSPLIT_DEVICE void tile(HiddenRange hidden) {
    if (seen_++ == wanted_) found_ = hidden;
  }
  const Problem& problem_;
  int wanted_, seen_ = 0, events_ = 0, scales_ = 0;
  HiddenRange found_{};
  KRange k_{};
};

/// What is done in one round: a tile, or none, for each kind of step.
struct Round {
  Tile plane;     ///< certified: rows of the plane
  Tile first;     ///< rows of W1, of a gated FFN those of the gate: all of them, or under certified the survivors'
  Tile selected;  ///< gated, skip: up rows where the gate is open
  Tile down;      ///< rows of W2; or h is stored, when the phase is first_product
};

/// Runs a block's parts of one phase. Steps offers
///   begin(part, phase, finder of the part), finish()
///   round(tiles)
///
/// Each round looks its tile up in the walk instead of being called by it: so the steps are compiled once per kernel, not
/// once per event, which halves the registers and takes a tenth of the compile time. A part has few tiles.
template <class Block, class Steps>
SIGNSPLIT_DEVICE void run_parts(Block& block, const KernelArguments& a, Phase phase, Steps& steps) {
  const int shift = a.plan.strategy == Strategy::certified ? 1 : 0, lag = a.launch.lag;
  int first_number = 0;
  for (index_t part = block.cta(); part < a.plan.parts; part += block.ctas()) {
    TileFinder all(a.problem);
    walk(a.plan, a.shape, phase, part, all);
    const auto tile_at = [&](int n) {
      TileFinder finder(a.problem, n);
      if (n >= 0 && n < all.count()) walk(a.plan, a.shape, phase, part, finder);
      return Tile{static_cast<int>(finder.found().begin), static_cast<int>(finder.found().size()), first_number + n};
    };
    steps.begin(part, phase, all);
    SIGNSPLIT_NO_UNROLL
    for (int n = 0; n < all.count() + lag; ++n) {
      steps.round(Round{shift > 0 ? tile_at(n) : Tile{}, tile_at(n - shift), lag - shift == 2 ? tile_at(n - lag + 1) : Tile{},
                        tile_at(n - lag)});
    }
    steps.finish();
    first_number += all.count();
  }
}

/// A sink that remembers a slice of y.
class SliceFinder {
 public:
  [[nodiscard]] SIGNSPLIT_DEVICE ColumnRange found() const { return found_; }

  SIGNSPLIT_DEVICE void begin_part(index_t, Phase) {}
  SIGNSPLIT_DEVICE void certify(HiddenRange) {}
  SIGNSPLIT_DEVICE void up_tile(HiddenRange, KRange) {}
  SIGNSPLIT_DEVICE void activate(HiddenRange) {}
  SIGNSPLIT_DEVICE void push(HiddenRange, KRange) {}
  SIGNSPLIT_DEVICE void correct(HiddenRange) {}
  SIGNSPLIT_DEVICE void load_h(HiddenRange) {}
  SIGNSPLIT_DEVICE void store_h(HiddenRange) {}
  SIGNSPLIT_DEVICE void down_tile(HiddenRange) {}
  SIGNSPLIT_DEVICE void reduce(ColumnRange columns) { found_ = columns; }

 private:
  ColumnRange found_{};
};

/// After a grid barrier every block reduces its own slices of y.
template <class Block, class Steps>
SIGNSPLIT_DEVICE void reduce_slices(Block& block, const KernelArguments& a, Steps& steps) {
  block.sync_grid(reinterpret_cast<std::uint32_t*>(a.workspace + a.layout.barrier));
  const index_t slices = item_count(a.plan, a.shape, Phase::reduce);
  for (index_t slice = block.cta(); slice < slices; slice += block.ctas()) {
    SliceFinder finder;
    walk(a.plan, a.shape, Phase::reduce, slice, finder);
    steps.reduce(finder.found());
  }
}

}  // namespace signsplit::gpu
