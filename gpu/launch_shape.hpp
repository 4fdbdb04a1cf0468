// How a plan is laid out on a device: thread blocks, warps, and what lies where in shared memory and in the workspace.
// Pure functions of plan, problem and device limits, for the host and the device.
#pragma once

#include "signsplit/certificate_panel.hpp"
#include "signsplit/plan.hpp"
#include "signsplit/statistics.hpp"
#include "signsplit/walk.hpp"

namespace signsplit::gpu {

/// Most consumer warps of a block, on which a kernel's share of the registers depends: a multiprocessor has four partitions
/// with registers of their own. With the copying warp, 8 warps are two for each, which leaves 255 registers for a thread; a
/// ninth would leave 168, and kernels for several tokens spilled. sign_split keeps two sums per accumulator and a unit's history.
SIGNSPLIT_HD constexpr int max_consumer_warps(Strategy strategy) { return strategy == Strategy::sign_split ? 4 : 7; }

/// What a launch must know of a device.
struct DeviceLimits {
  int multiprocessors = 1;
  index_t shared_bytes_per_block = 48 * 1024;  ///< with the opt-in limit
  int consumer_warps = 7;                      ///< warps that compute, at most max_consumer_warps(); one more issues the copies
  int max_stages = 32;                         ///< fewer, to see what bytes in flight are worth
};

inline constexpr int kWarpLanes = 32;
inline constexpr int kMaxStages = 32;
inline constexpr int kMaxTileBuffers = 5;
/// The reduction of a column holds all its partial sums in shared memory at once.
inline constexpr index_t kMaxParts = 1024;
/// Batches above this are refused: x, the partial y and the state of a tile grow with it.
inline constexpr index_t kMaxBatch = 16;

/// Tokens that one pass over a weight serves: its accumulators live in registers.
SIGNSPLIT_HD constexpr index_t token_block(index_t batch) { return batch == 1 ? 1 : 4; }

/// By how many rounds the rows of W2 lag behind the first rows of their tile: each step that decides what the next one reads
/// costs one, so that while the active rows of a tile are found, the next tile's rows are under way.
SIGNSPLIT_HD constexpr int tile_lag(const Plan& plan, const Problem& problem) {
  if (!plan.skip || plan.strategy == Strategy::sign_split) return 0;
  return (problem.gated ? 2 : 1) + (plan.strategy == Strategy::certified ? 1 : 0);
}

/// Byte offsets into a block's shared memory.
struct SharedLayout {
  index_t barriers = 0;      ///< 8-byte words: full, empty [kMaxStages]; listed, taken [3][kMaxTileBuffers]
  index_t counts = 0;        ///< [consumer warps][3] u64: active, active_union, rechecked; then [consumer warps][16] u32: x not finite
  index_t norms = 0;         ///< sign_split: [16] f64, norms of x; then [consumer warps][72] i64 for exact sums
  index_t tiles = 0;         ///< [tile_buffers] TileState, then the row lists
  index_t tile_bytes = 0;    ///< of one tile's state
  index_t lists = 0;         ///< [3][tile_buffers][hidden_tile + 1] i32: how many, then which rows of the tile
  index_t x = 0;             ///< [tokens, d_padded] f32, when x_in_shared
  index_t y = 0;             ///< [tokens, d_padded] f32, when y_in_shared
  index_t ring = 0;          ///< stages × stage_bytes, 128-byte aligned; the reduction's scratch afterwards
  index_t bytes = 0;
};

struct LaunchShape {
  int ctas = 0;
  int consumer_warps = 0;
  index_t tokens = 0;         ///< batch rounded up to whole token blocks
  int lag = 0;                ///< tile_lag()
  int tile_buffers = 0;
  bool x_in_shared = false, y_in_shared = false;
  index_t stage_rows = 0, stage_columns = 0;  ///< a stage holds this many rows of a weight matrix, or of a segment of them
  index_t stage_bytes = 0;
  int stages = 0;
  index_t reduce_tile = 0;    ///< columns that a block reduces at once; never changes bits
  SharedLayout shared;        ///< shared.bytes is 0 when the plan does not fit on the device

  SIGNSPLIT_HD constexpr int threads() const { return (consumer_warps + 1) * kWarpLanes; }
  SIGNSPLIT_HD constexpr bool fits() const { return shared.bytes > 0; }
};

/// Byte offsets into the workspace in device memory. All zero bytes before the first launch; reused without clearing.
struct WorkspaceLayout {
  index_t partial_y = 0;   ///< [parts, batch, d_padded] f32
  index_t h = 0;           ///< [d_ff, batch] f32 (unfused)
  index_t x = 0;           ///< [tokens, d_padded] f32, one per block (only when x is not in shared memory)
  index_t x_bytes = 0;     ///< of one block's x
  index_t statistics = 0;  ///< [ctas] Statistics
  index_t barrier = 0;     ///< one 32-bit word
  index_t bytes = 0;
};

SIGNSPLIT_HD constexpr index_t smaller(index_t a, index_t b) { return a < b ? a : b; }
SIGNSPLIT_HD constexpr index_t larger(index_t a, index_t b) { return a > b ? a : b; }

/// Floats of a tile's state per unit and token: pre-activation, up value, coefficient; under sign_split also the streams
/// A⁺ and A⁻, what was pushed, Σ|x||w|, and whether pushing stopped. And one per unit: whether its row of W2 is wanted.
SIGNSPLIT_HD constexpr index_t tile_state_arrays(const Plan& plan) { return plan.strategy == Strategy::sign_split ? 8 : 3; }

/// The head and the tail of a panel of the plane, and what aligns the tail.
SIGNSPLIT_HD constexpr index_t plane_ends_bytes() { return PanelLayout::kHeadBytes + 64 + 8 * kPanelRows; }

/// The shape of a launch; the same for the kernels of an unfused plan.
SIGNSPLIT_HD constexpr LaunchShape launch_shape(const Plan& plan, const Problem& problem, DeviceLimits limits) {
  const WalkShape shape = walk_shape(problem);
  const index_t elem = dtype_bytes(problem.dtype);
  LaunchShape launch;
  launch.ctas = static_cast<int>(smaller(limits.multiprocessors, plan.parts));
  launch.consumer_warps = static_cast<int>(smaller(limits.consumer_warps, max_consumer_warps(plan.strategy)));
  launch.tokens = round_up(problem.batch, token_block(problem.batch));
  launch.lag = tile_lag(plan, problem);
  launch.tile_buffers = launch.lag + 2;

  // A stage: 16 KiB, whole rows where they fit in 32 KiB; not more rows than give every warp its share of a tile.
  constexpr index_t kWanted = 16 * 1024, kLargest = 32 * 1024;
  const index_t budget = limits.shared_bytes_per_block;
  const index_t column_limit = smaller(kLargest, budget / 8) / elem / kAccumulators * kAccumulators;
  const index_t segments = ceil_div(shape.d_padded, larger(column_limit, kAccumulators));  // of a row, about equal
  launch.stage_columns = round_up(ceil_div(shape.d_padded, segments), kAccumulators);
  const index_t tile = smaller(plan.hidden_tile, ceil_div(shape.d_ff, plan.parts));
  const index_t row_limit = smaller(kWanted, budget / 8) / (launch.stage_columns * elem);
  launch.stage_rows = larger(1, smaller(row_limit, ceil_div(tile, launch.consumer_warps)));
  launch.stage_bytes = round_up(launch.stage_rows * launch.stage_columns * elem, 128);
  if (plan.strategy == Strategy::certified) {  // 16 rows of one group of the plane, and the panel's head and tail
    launch.stage_bytes = larger(launch.stage_bytes, round_up((plan.plane_group + PanelLayout::kCodes) * kPanelRows + plane_ends_bytes(), 128));
  }

  SharedLayout& at = launch.shared;
  at.counts = (2 * kMaxStages + 6 * kMaxTileBuffers) * 8;
  at.norms = round_up(at.counts + launch.consumer_warps * (3 * 8 + kMaxBatch * 4), 128);
  at.tiles = at.norms + (plan.strategy == Strategy::sign_split ? (kMaxBatch + launch.consumer_warps * 72) * 8 : 0);
  at.tiles = round_up(at.tiles, 128);
  at.tile_bytes = round_up(plan.hidden_tile * (launch.tokens * tile_state_arrays(plan) + 2) * 4, 128);
  at.lists = at.tiles + launch.tile_buffers * at.tile_bytes;
  index_t used = round_up(at.lists + 3 * launch.tile_buffers * (plan.hidden_tile + 1) * 4, 128);
  const index_t token_bytes = launch.tokens * shape.d_padded * 4;
  const index_t ring_wanted = larger(smaller(64 * 1024, budget / 3), 2 * launch.stage_bytes);
  at.x = at.y = used;
  if (used + token_bytes + ring_wanted <= budget) {  // x is read once per row of W1, y read and written once per stage
    launch.x_in_shared = true;
    used += token_bytes;
    at.y = used;
  }
  if (used + token_bytes + ring_wanted <= budget) {
    launch.y_in_shared = true;
    used += token_bytes;
  }
  at.ring = round_up(used, 128);
  const index_t ring_bytes = budget > at.ring ? budget - at.ring : 0;
  launch.stages = static_cast<int>(smaller(smaller(kMaxStages, limits.max_stages), ring_bytes / launch.stage_bytes));
  // The reduction keeps parts × columns sums in the ring: columns in steps of 8, a 32-byte sector.
  const index_t sums = launch.stages * launch.stage_bytes / 4 / plan.parts;
  const index_t share = round_up(ceil_div(shape.d_padded, launch.ctas), 8);
  launch.reduce_tile = larger(8, smaller(share, sums / 8 * 8));
  at.bytes = launch.stages >= 2 && sums >= 8 ? at.ring + launch.stages * launch.stage_bytes : 0;
  return launch;
}

SIGNSPLIT_HD constexpr WorkspaceLayout workspace_layout(const Plan& plan, const Problem& problem, const LaunchShape& launch) {
  const WalkShape shape = walk_shape(problem);
  WorkspaceLayout at;
  at.barrier = 0;
  at.statistics = 128;
  at.partial_y = round_up(at.statistics + launch.ctas * static_cast<index_t>(sizeof(Statistics)), 128);
  at.h = round_up(at.partial_y + plan.parts * problem.batch * shape.d_padded * 4, 128);
  at.x = round_up(at.h + (plan.strategy == Strategy::unfused ? shape.d_ff * problem.batch * 4 : 0), 128);
  at.x_bytes = launch.x_in_shared ? 0 : launch.tokens * shape.d_padded * 4;
  at.bytes = at.x + launch.ctas * at.x_bytes;
  return at;
}

}  // namespace signsplit::gpu
