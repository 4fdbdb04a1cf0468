// Level 2: the walk's tiles run by simulated workers that share the bandwidth. Where level 1 has a formula for a tail or
// an imbalance, level 2 lets it happen.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "signsplit/sim/predict.hpp"

namespace signsplit::sim {

/// What a worker did from one time to another; seconds since the call began.
struct Slice {
  enum class What : std::uint8_t { up, down, reduce, wait, fork_join, item };
  What what = What::item;  ///< item: a whole work item, where nothing finer is known (measured timelines)
  int worker = 0;
  int phase = 0;           ///< index of the phase in the plan
  std::int64_t item = 0;   ///< part, or column slice of the reduction
  double begin_s = 0, end_s = 0;

  friend bool operator==(const Slice&, const Slice&) = default;
};
[[nodiscard]] std::string_view to_string(Slice::What) noexcept;

struct Timeline {
  double time_s = 0;
  int workers = 0;
  std::vector<Slice> slices;  ///< in the order in which they end
};

/// Runs a scenario in simulated time. Workers take items from queues as the executor's do, their own first, then others';
/// tiles stream their bytes at an equal share of the bandwidth of as many workers as are streaming, while the arithmetic
/// goes on beside it; phases end with a barrier, before which a worker that is done loads the first bytes of its next phase.
/// Total bytes and arithmetic are level 1's. `open_units`, unless empty, [F]: 1 where a unit is open for a token of the
/// batch (a recorded mask); then each down tile reads its own number of rows, otherwise all the same fraction.
/// At most some thousand tiles are simulated one by one: more are taken together. Errors are those of predict().
[[nodiscard]] Result<Timeline> simulate(const Scenario& scenario, const Machine& machine, std::span<const std::uint8_t> open_units = {});

/// A timeline under a name, for trace_json.
struct NamedTimeline {
  std::string name;
  const Timeline* timeline = nullptr;
};
/// JSON for Perfetto and chrome://tracing: every timeline a process, every worker a thread; times in µs.
[[nodiscard]] std::string trace_json(std::span<const NamedTimeline> timelines);

}  // namespace signsplit::sim
