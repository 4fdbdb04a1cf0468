// The machine as it is just now. On a shared host main memory, the last-level cache and the way between the cores are faster in one
// minute than in the next; a tenth of a second of probing says by how much, and a profile scaled by it predicts the next second.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "signsplit/sim/machine.hpp"

namespace signsplit::sim {

/// What a short probe says of the machine. 0, or empty: not known.
struct Reading {
  int threads = 0;                             ///< that took part
  std::string isa = {};                        ///< of `fma_per_s`
  std::vector<BandwidthPoint> read_bandwidth;  ///< ascending working sets, the last one main memory's
  double fork_join_s = 0, barrier_s = 0;
  double fma_per_s = 0;                        ///< FLOP/s of one thread
};

/// The profile scaled to a reading: m is measured now, p is what the profile says of the same.
///
/// * read_bandwidth, the curve of as many threads: the points that were read stand in place of its own between the first and the last of
///   them. Its other points times m / p, interpolated in the logarithms; as it is up to the last cache but one of all these threads,
///   which no neighbour shares.
/// * fork_join and barrier of more than one thread: times m / p of each. What else goes from core to core takes m / p of fork_join
///   longer: model.thread_wait_s, model.barrier_wait_s and model.exchange_rate.
/// * Rates: times m / p of fma_f32; the model's other seconds divided by it.
[[nodiscard]] Machine as_of_now(const Machine& machine, const Reading& reading);

/// The median of several readings of the same kind, number by number.
[[nodiscard]] Reading median_of(const std::vector<Reading>& readings);

/// Whether two readings are of one machine: main memory's bandwidth and the cost of a fork and join differ by less than a factor of
/// 1.3. What a hypervisor has moved to other cores meanwhile differs by more.
[[nodiscard]] bool same_machine(const Reading& before, const Reading& after);

/// Takes readings. Owns the memory that it reads: as much as the end of a calibrated curve.
class NowProbe {
 public:
  /// Errors: an instruction set or a number of threads that is not there; no memory.
  [[nodiscard]] static Result<NowProbe> make(const Machine& machine, int threads, const std::string& isa);
  /// About a sixth of a second.
  [[nodiscard]] Reading take() const;
  /// Whether the machine is still that of a reading (same_machine), by fork and join and, if asked for, by 8 MB of main memory alone: a
  /// tenth of a millisecond, or a quarter. Small enough to ask between calls that are timed.
  [[nodiscard]] bool still(const Reading& reading, bool with_memory) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace signsplit::sim
