#include "emulated_block.hpp"

#include <numeric>

namespace signsplit::test {

// ---- the warp's side ----

void EmulatedBlock::begin_lanes() {
  ++grid_.phase_;
  std::iota(order_.begin(), order_.end(), 0);
  std::shuffle(order_.begin(), order_.end(), grid_.rng_);
}

void EmulatedBlock::check_read(const std::byte* p, std::size_t bytes, std::size_t alignment) {
  if (reinterpret_cast<std::uintptr_t>(p) % alignment != 0) throw EmulationError("unaligned read");
  if (lane_ < 0) throw EmulationError("memory is read outside of lanes()");
  grid_.region_of(p, bytes).read(p, bytes, {id_, lane_, grid_.phase_, &grid_.warps_[id_].clock});
}

void EmulatedBlock::check_write(std::byte* p, std::size_t bytes, std::size_t alignment) {
  if (reinterpret_cast<std::uintptr_t>(p) % alignment != 0) throw EmulationError("unaligned write");
  if (lane_ < 0) throw EmulationError("memory is written outside of lanes()");
  grid_.region_of(p, bytes).write(p, bytes, {id_, lane_, grid_.phase_, &grid_.warps_[id_].clock});
}

void EmulatedBlock::check_atomic(std::byte* p, std::size_t bytes) {
  if (reinterpret_cast<std::uintptr_t>(p) % bytes != 0) throw EmulationError("unaligned atomic");
  grid_.region_of(p, bytes).update_atomically(p, bytes, {id_, kNoLane, grid_.phase_, &grid_.warps_[id_].clock});
}

void EmulatedBlock::init(std::uint64_t* word, int arrivals) { make_barrier(word, arrivals, false); }
void EmulatedBlock::init_for_copies(std::uint64_t* word) { make_barrier(word, 1, true); }
void EmulatedBlock::make_barrier(std::uint64_t* word, int arrivals, bool copies) {
  const Clock zero(grid_.warps_.size());
  const EmulatedGrid::Barrier barrier{arrivals, arrivals, copies, 0, zero, zero, {}};
  if (!grid_.barriers_.try_emplace(word, barrier).second) throw EmulationError("a barrier is initialized twice");
}

void EmulatedBlock::arrive(std::uint64_t* word) {
  EmulatedGrid::Barrier& barrier = grid_.barriers_.at(word);
  Clock& clock = grid_.warps_[id_].clock;
  if (barrier.missing == 0) throw EmulationError("more arrivals at a barrier than it was initialized for");
  join(barrier.gathering, clock);
  ++clock[id_];
  --barrier.missing;
  if (!barrier.for_copies) grid_.try_complete(barrier);  // copies land only when somebody waits for them
}

void EmulatedBlock::wait(std::uint64_t* word, std::uint32_t parity) {
  EmulatedGrid::Barrier& barrier = grid_.barriers_.at(word);
  const auto kind = barrier.for_copies                                         ? Fault::Kind::missing_wait
                    : warp_ == consumers_ && barrier.arrivals == consumers_ ? Fault::Kind::missing_release_wait
                                                                               : Fault::Kind::missing_list_wait;
  if (grid_.fault_now(kind)) return;
  grid_.wait_until(id_, [&barrier, this, parity] {
    if ((barrier.phase & 1u) != parity) return true;
    return grid_.try_complete(barrier) && (barrier.phase & 1u) != parity;
  });
  join(grid_.warps_[id_].clock, barrier.completed);
}

void EmulatedBlock::issue_copies(std::byte* to, std::size_t bytes, const std::vector<const std::byte*>& from,
                                 std::uint64_t* full) {
  EmulatedGrid::Barrier& barrier = grid_.barriers_.at(full);
  if (barrier.missing == 0) throw EmulationError("copies are issued before the last ones have landed");
  if (bytes % 16 != 0) throw EmulationError("a copy is not a multiple of 16 bytes");
  const std::size_t stage_bytes = bytes * from.size();
  if (grid_.fault_now(Fault::Kind::wrong_slot)) to += (stage_bytes + 127) / 128 * 128;
  const Access access{id_, kNoLane, ++grid_.phase_, &grid_.warps_[id_].clock};
  for (std::size_t row = 0; row < from.size(); ++row) {
    std::byte* at = to + row * bytes;
    std::size_t moved = bytes;
    if (grid_.fault_now(Fault::Kind::short_copy)) moved -= 16;
    static_cast<void>(grid_.region_of(from[row], moved));
    grid_.region_of(at, bytes).begin_copy(at, bytes, access);
    if (moved > 0) barrier.copies.push_back({at, moved, from[row]});
  }
  arrive(full);
}

/// All `count` warps of a meeting must come before any goes on.
void EmulatedBlock::meet(int kind, int key, int count, bool runs_through) {
  EmulatedGrid::Meeting& meeting = grid_.meetings_[{kind, key}];
  Clock& clock = grid_.warps_[id_].clock;
  meeting.gathering.resize(clock.size());
  join(meeting.gathering, clock);
  ++clock[id_];
  const std::uint64_t round = meeting.round;
  if (++meeting.arrived == count) {
    meeting.released = meeting.gathering;
    meeting.arrived = 0;
    ++meeting.round;
  }
  if (runs_through) return;
  grid_.wait_until(id_, [&meeting, round] { return meeting.round != round; });
  join(clock, meeting.released);
}

void EmulatedBlock::sync_consumers() {
  if (warp_ == consumers_) throw EmulationError("the producer at a barrier of the consumers");
  meet(0, kernel_ * 1000 + cta_, consumers_, grid_.fault_now(Fault::Kind::missing_barrier));
}
void EmulatedBlock::sync_all() { meet(1, kernel_ * 1000 + cta_, consumers_ + 1, false); }
void EmulatedBlock::sync_grid(std::uint32_t*) {
  meet(2, kernel_, consumers_ * ctas_, grid_.fault_now(Fault::Kind::missing_grid_barrier));
}

void EmulatedBlock::wait_for_primary() {
  if (kernel_ == 0) return;
  if (grid_.fault_now(Fault::Kind::missing_primary_wait)) return;
  grid_.wait_until(id_, [this] { return grid_.running_[static_cast<std::size_t>(kernel_ - 1)] == 0; });
  join(grid_.warps_[id_].clock, grid_.finished_);
}

// ---- the machine's side ----

EmulatedGrid::EmulatedGrid(std::vector<Kernel> kernels, std::uint64_t seed, Fault fault)
    : kernels_(std::move(kernels)), rng_(seed), fault_(fault) {}

void EmulatedGrid::add_region(std::string name, const void* begin, std::size_t bytes, std::size_t cell_bytes,
                              bool initialized) {
  auto* at = const_cast<std::byte*>(static_cast<const std::byte*>(begin));  // regions of 0-byte cells are never written
  specs_.push_back({std::move(name), at, bytes, cell_bytes, initialized});
}

bool EmulatedGrid::all_written(const void* begin) const {
  for (const Region& region : regions_) {
    if (region.contains(static_cast<const std::byte*>(begin), 1)) return region.all_written();
  }
  return false;
}

Region& EmulatedGrid::region_of(const std::byte* p, std::size_t bytes) {
  for (Region& region : regions_) {
    if (region.contains(p, bytes)) return region;
  }
  throw EmulationError("access outside of all memory regions");
}

bool EmulatedGrid::fault_now(Fault::Kind kind) {
  if (fault_.kind != kind) return false;
  const int opportunity = opportunities_++;
  return fault_.at < 0 || opportunity == fault_.at;
}

/// Copies land when nothing else is missing. Returns true when the phase ended.
bool EmulatedGrid::try_complete(Barrier& barrier) {
  if (barrier.missing > 0) return false;
  for (const PendingCopy& copy : barrier.copies) {
    std::memcpy(copy.to, copy.from, copy.bytes);
    region_of(copy.to, copy.bytes).land_copy(copy.to, copy.bytes);
  }
  barrier.copies.clear();
  barrier.missing = barrier.arrivals;
  ++barrier.phase;
  barrier.completed = barrier.gathering;
  return true;
}

void EmulatedGrid::wait_until(std::size_t warp, std::function<bool()> ready) {
  warps_[warp].ready = std::move(ready);
  warps_[warp].fiber->yield();
}

void EmulatedGrid::build() {
  std::size_t total = 0;
  for (const Kernel& kernel : kernels_) total += static_cast<std::size_t>(kernel.ctas * (kernel.consumer_warps + 1));
  for (const RegionSpec& s : specs_) regions_.emplace_back(s.name, s.begin, s.bytes, s.cell_bytes, s.initialized, total);
  warps_.resize(total);
  finished_.assign(total, 0);
  std::size_t id = 0;
  for (int k = 0; k < static_cast<int>(kernels_.size()); ++k) {
    const Kernel& kernel = kernels_[static_cast<std::size_t>(k)];
    running_.push_back(kernel.ctas * (kernel.consumer_warps + 1));
    for (int cta = 0; cta < kernel.ctas; ++cta) {
      shared_.push_back(std::make_unique<std::byte[]>(kernel.shared_bytes + 256));
      auto* begin = reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(shared_.back().get()) + 255) / 256 * 256);
      regions_.emplace_back("shared memory of block " + std::to_string(cta), begin, kernel.shared_bytes, 4, false, total);
      for (int warp = 0; warp <= kernel.consumer_warps; ++warp, ++id) {
        Warp& w = warps_[id];
        w.kernel = k;
        w.clock.assign(total, 0);
        w.clock[id] = 1;
        w.block = std::make_unique<EmulatedBlock>(*this, id, k, cta, kernel.ctas, warp, kernel.consumer_warps, begin);
        w.ready = [] { return true; };
        w.fiber = std::make_unique<Fiber>([this, id, &kernel] {
          try {
            kernel.body(*warps_[id].block);
          } catch (const std::exception& broken) {
            if (error_.empty()) error_ = broken.what();
          }
        });
      }
    }
  }
}

std::string EmulatedGrid::run() {
  build();
  std::vector<std::size_t> alive(warps_.size());
  std::iota(alive.begin(), alive.end(), std::size_t{0});
  while (!alive.empty() && error_.empty()) {
    std::shuffle(alive.begin(), alive.end(), rng_);
    const auto next = std::find_if(alive.begin(), alive.end(), [&](std::size_t w) { return warps_[w].ready(); });
    if (next == alive.end()) return "deadlock: every warp waits";
    Warp& warp = warps_[*next];
    warp.fiber->resume();
    if (!warp.fiber->done()) continue;
    join(finished_, warp.clock);
    --running_[static_cast<std::size_t>(warp.kernel)];
    alive.erase(next);
  }
  return error_;
}

}  // namespace signsplit::test
