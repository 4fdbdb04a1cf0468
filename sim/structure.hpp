// What a plan does whatever the data: the walk's events, counted per kind.
#pragma once

#include "signsplit/walk.hpp"

namespace signsplit::sim {

struct Structure {
  std::uint64_t row_bytes = 0;      ///< of one padded row of one matrix
  std::uint64_t up_elements = 0;    ///< elements of W1 (as many of Wg) in all up_tile events
  std::uint64_t up_pieces = 0;      ///< rows, or parts of rows, that up_tile reads from one matrix
  std::uint64_t up_scales = 0;      ///< scales of those rows, int8 weights only
  std::uint64_t up_jumps = 0;       ///< places where the reads of up_tile do not go on where the last up_tile ended
  std::uint64_t down_rows = 0;      ///< rows offered to down_tile
  std::uint64_t down_jumps = 0;     ///< the same of down_tile, were all rows read
  std::uint64_t tiles = 0;
  std::uint64_t bytes_plane = 0;    ///< of the certificate's panels; one that two hidden tiles share counts in both
  std::uint64_t bytes_x = 0, bytes_h = 0, bytes_y = 0;
};

/// Walks one long and one short part of every phase: parts of equal length send equal events. But under certified all of
/// them, since a tile spans one more panel or one less depending on where it begins. Valid plans only.
[[nodiscard]] Structure structure_of(const Plan& plan, const Problem& problem);

}  // namespace signsplit::sim
