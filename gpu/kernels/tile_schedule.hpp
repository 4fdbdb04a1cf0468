// Turns the walk's events into steps over whole tiles, for the producer and the consumers alike, so that both go through
// the same chunks in the same order.
//
// With skip, a step that reads selected rows only runs one tile later than the step that selects them: the walk's
//   up(0) activate(0) down(0) up(1) activate(1) down(1) ...
// becomes
//   up(0) up(1) down(0) up(2) down(1) ...                     (lag 1)
//   gate(0) gate(1) up(0) gate(2) up(1) down(0) ...           (lag 2, gated: up rows are selected too)
// and while the active rows of a tile are found, the copies of the next tile's rows are under way. Every sum keeps its
// order. K tiles are joined: no bit of these strategies depends on them.
#pragma once

#include "shared_state.hpp"

namespace signsplit::gpu {

/// Steps of a tile; number is the tile's position in everything this block does.
///   begin(part, phase), finish()
///   dense(hidden, number)      rows of W1 that are always read
///   selected(hidden, number)   up rows of the units whose gate is open (lag 2 only)
///   down(hidden, number)       rows of W2; or h is stored, when the phase is first_product
template <class Steps>
class TileSchedule {
 public:
  SIGNSPLIT_DEVICE TileSchedule(Steps& steps, int lag) : steps_(steps), lag_(lag) {}

  SIGNSPLIT_DEVICE void begin_part(index_t part, Phase phase) {
    steps_.begin(part, phase);
    in_flight_ = 0;
  }
  SIGNSPLIT_DEVICE void certify(HiddenRange) {}
  SIGNSPLIT_DEVICE void up_tile(HiddenRange, KRange) { steps_.count_tile(); }
  SIGNSPLIT_DEVICE void activate(HiddenRange) {}
  SIGNSPLIT_DEVICE void load_h(HiddenRange) {}
  SIGNSPLIT_DEVICE void push(HiddenRange, KRange) {}
  SIGNSPLIT_DEVICE void correct(HiddenRange) {}
  SIGNSPLIT_DEVICE void reduce(ColumnRange columns) { steps_.reduce(columns); }
  SIGNSPLIT_DEVICE void down_tile(HiddenRange hidden) {
    steps_.count_tile();
    enter(hidden);
  }
  SIGNSPLIT_DEVICE void store_h(HiddenRange hidden) { enter(hidden); }

  /// After the walk of an item: the steps that still lag behind.
  SIGNSPLIT_DEVICE void finish() {
    if (lag_ == 2) {
      if (in_flight_ >= 1) steps_.selected(newest_, number_ - 1);
      if (in_flight_ >= 2) steps_.down(older_, number_ - 2);
    }
    if (lag_ >= 1 && in_flight_ >= 1) steps_.down(newest_, number_ - 1);
    steps_.finish();
  }

 private:
  SIGNSPLIT_DEVICE void enter(HiddenRange hidden) {
    steps_.dense(hidden, number_);
    if (lag_ == 0) {
      steps_.down(hidden, number_);
    } else if (lag_ == 1) {
      if (in_flight_ >= 1) steps_.down(newest_, number_ - 1);
    } else {
      if (in_flight_ >= 1) steps_.selected(newest_, number_ - 1);
      if (in_flight_ >= 2) steps_.down(older_, number_ - 2);
    }
    older_ = newest_;
    newest_ = hidden;
    ++number_;
    if (in_flight_ < lag_) ++in_flight_;
  }

  Steps& steps_;
  int lag_;
  int in_flight_ = 0;
  index_t number_ = 0;
  HiddenRange newest_{}, older_{};
};

}  // namespace signsplit::gpu
