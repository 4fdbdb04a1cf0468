// Level 3: a set-associative replay of the addresses that a walk touches, line by line.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "signsplit/sim/machine.hpp"
#include "signsplit/walk.hpp"

namespace signsplit::sim {

/// One cache of a hierarchy. An access goes to the first; what misses goes on to the next and is then in both. Writes allocate.
struct CacheGeometry {
  std::string name;
  index_t capacity_bytes = 0;  ///< ways · sets · line_bytes, sets a whole number
  index_t ways = 1;
  index_t line_bytes = 64;     ///< the same on all levels, a power of two
  Replacement policy = Replacement::lru;
};

/// The levels of a profile. Where it does not know the ways: 8 for the first, 16 for the others. One worker is replayed: a
/// shared level counts with its whole capacity. A capacity that is not a whole number of sets is rounded down to one.
[[nodiscard]] std::vector<CacheGeometry> cache_geometry(const Machine& machine);

struct ReplayCounts {
  std::string name;
  std::uint64_t accesses = 0;  ///< lines asked for
  std::uint64_t misses = 0;    ///< lines that this level did not have

  friend bool operator==(const ReplayCounts&, const ReplayCounts&) = default;
};

/// Where a layer's arrays lie, one after the other from address 0, each on a page of its own.
struct AddressMap {
  index_t row_bytes = 0;                     ///< of one padded row of one matrix
  index_t up = 0, gate = 0, down = 0;        ///< hidden-major, F rows each
  index_t x = 0, h = 0, partial_y = 0, y = 0;
  index_t bytes = 0;                         ///< of everything
};
[[nodiscard]] AddressMap address_map(const Plan& plan, const Problem& problem);

/// Counts per level of the last of `rounds` passes over the layer by one worker, parts in ascending order, caches empty at first:
/// one round is a cold call, two a warm one. `open`: a byte per hidden unit, not 0 where the unit is active for a token of the
/// batch; empty: all are. With skip, rows of W2 (and of a gated FFN's W1) of closed units are not touched. sign_split pushes
/// the open units of every K tile; its repairs are not replayed. unsupported for certified and folded plans;
/// invalid_argument for levels that are none.
[[nodiscard]] Result<std::vector<ReplayCounts>> replay(const Plan& plan, const Problem& problem, std::span<const std::uint8_t> open,
                                                       std::span<const CacheGeometry> levels, int rounds = 1);

}  // namespace signsplit::sim
