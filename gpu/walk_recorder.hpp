// Records the events of a walk, on the host or on the device: shows that both see the same schedule.
#pragma once

#include "signsplit/walk.hpp"

namespace signsplit::gpu {

/// One event as plain data. Fields that an event does not have are 0.
struct WalkEvent {
  enum class Kind : std::uint8_t { begin_part, certify, up_tile, activate, push, down_tile, correct, store_h, load_h, reduce };

  Kind kind = Kind::begin_part;
  Phase phase = Phase::first_product;    ///< of begin_part
  std::uint8_t first_k = 0, last_k = 0;  ///< of the K tile
  index_t item = 0;                      ///< of begin_part
  index_t begin = 0, end = 0;            ///< hidden units, or the columns of reduce
  index_t k_begin = 0, k_end = 0;

  friend constexpr bool operator==(const WalkEvent&, const WalkEvent&) = default;
};

/// A sink that writes the first `capacity` events, and counts all.
class WalkRecorder {
 public:
  SIGNSPLIT_HD WalkRecorder(WalkEvent* events, index_t capacity) : events_(events), capacity_(capacity) {}
  SIGNSPLIT_HD index_t count() const { return count_; }

  SIGNSPLIT_HD void begin_part(index_t item, Phase phase) {
    WalkEvent event;
    event.kind = WalkEvent::Kind::begin_part;
    event.phase = phase;
    event.item = item;
    record(event);
  }
  SIGNSPLIT_HD void certify(HiddenRange hidden) { record(WalkEvent::Kind::certify, hidden); }
  SIGNSPLIT_HD void up_tile(HiddenRange hidden, KRange k) { record(WalkEvent::Kind::up_tile, hidden, k); }
  SIGNSPLIT_HD void activate(HiddenRange hidden) { record(WalkEvent::Kind::activate, hidden); }
  SIGNSPLIT_HD void push(HiddenRange hidden, KRange k) { record(WalkEvent::Kind::push, hidden, k); }
  SIGNSPLIT_HD void down_tile(HiddenRange hidden) { record(WalkEvent::Kind::down_tile, hidden); }
  SIGNSPLIT_HD void correct(HiddenRange hidden) { record(WalkEvent::Kind::correct, hidden); }
  SIGNSPLIT_HD void store_h(HiddenRange hidden) { record(WalkEvent::Kind::store_h, hidden); }
  SIGNSPLIT_HD void load_h(HiddenRange hidden) { record(WalkEvent::Kind::load_h, hidden); }
  SIGNSPLIT_HD void reduce(ColumnRange columns) { record(WalkEvent::Kind::reduce, HiddenRange{columns.begin, columns.end}); }

 private:
  SIGNSPLIT_HD void record(const WalkEvent& event) {
    if (count_ < capacity_) events_[count_] = event;
    ++count_;
  }
  SIGNSPLIT_HD void record(WalkEvent::Kind kind, HiddenRange range, KRange k = {0, 0, false, false}) {
    WalkEvent event;
    event.kind = kind;
    event.first_k = k.first ? 1 : 0;
    event.last_k = k.last ? 1 : 0;
    event.begin = range.begin;
    event.end = range.end;
    event.k_begin = k.begin;
    event.k_end = k.end;
    record(event);
  }

  WalkEvent* events_;
  index_t capacity_;
  index_t count_ = 0;
};

}  // namespace signsplit::gpu
