// What lies in a block's shared memory, as pointers; and how the stages of the ring are dealt out.
#pragma once

#include "../block.hpp"
#include "../kernel_arguments.hpp"

namespace signsplit::gpu {

/// State of one hidden tile. Arrays are [unit of the tile][token], the token stride is launch.tokens.
struct TileState {
  float* pre;           ///< pre-activations, of a gated FFN the gate's; under sign_split those of a K tile
  float* up;            ///< up values (gated)
  float* coefficients;  ///< what down_tile adds; 0 for the tokens that pad a token block
  float *positive, *negative, *pushed, *absolute, *stopped;  ///< sign_split, as in docs/sign-split.md
  std::uint32_t* wanted;        ///< [unit] its row is to be read by the next selective step
  std::uint32_t* already_read;  ///< [unit] sign_split: its row of W2 was read since the tile began
  std::uint32_t* survives;      ///< [unit] certified: not proven closed
};

/// Rows of a tile that a selective step reads: how many, and their places in the tile.
struct RowList {
  std::int32_t* count;
  std::int32_t* rows;
};

enum class ListKind : std::uint8_t { survivors, up, down };
inline constexpr int kListKinds = 3;

template <class Block>
class SharedState {
 public:
  SIGNSPLIT_DEVICE SharedState(Block& block, const KernelArguments& a) : base_(block.shared()), a_(a) {}

  [[nodiscard]] SIGNSPLIT_DEVICE std::uint64_t* full(int stage) const { return words() + stage; }
  [[nodiscard]] SIGNSPLIT_DEVICE std::uint64_t* empty(int stage) const { return words() + kMaxStages + stage; }
  [[nodiscard]] SIGNSPLIT_DEVICE std::uint64_t* listed(ListKind kind, int number) const {
    return words() + 2 * kMaxStages + static_cast<int>(kind) * kMaxTileBuffers + buffer(number);
  }
  /// The producer has read the list: its buffer is free.
  [[nodiscard]] SIGNSPLIT_DEVICE std::uint64_t* taken(ListKind kind, int number) const {
    return listed(kind, number) + kListKinds * kMaxTileBuffers;
  }
  /// Parity to wait for: list `number` is the (number / tile_buffers)-th in its buffer.
  [[nodiscard]] SIGNSPLIT_DEVICE std::uint32_t list_parity(int number) const {
    return static_cast<std::uint32_t>(number / a_.launch.tile_buffers) & 1u;
  }
  [[nodiscard]] SIGNSPLIT_DEVICE RowList list(ListKind kind, int number) const {
    auto* lists = reinterpret_cast<std::int32_t*>(base_ + a_.launch.shared.lists);
    std::int32_t* at =
        lists + (static_cast<int>(kind) * a_.launch.tile_buffers + buffer(number)) * (a_.plan.hidden_tile + 1);
    return {at, at + 1};
  }
  [[nodiscard]] SIGNSPLIT_DEVICE TileState tile(int number) const {
    auto* at = reinterpret_cast<float*>(base_ + a_.launch.shared.tiles + buffer(number) * a_.launch.shared.tile_bytes);
    const index_t values = a_.plan.hidden_tile * a_.launch.tokens;
    auto* flags = reinterpret_cast<std::uint32_t*>(at + tile_state_arrays(a_.plan) * values);
    return {at,
            at + values,
            at + 2 * values,
            at + 3 * values,
            at + 4 * values,
            at + 5 * values,
            at + 6 * values,
            at + 7 * values,
            flags,
            flags + a_.plan.hidden_tile,
            flags + a_.plan.hidden_tile};
  }
  [[nodiscard]] SIGNSPLIT_DEVICE std::byte* stage(int slot) const {
    return base_ + a_.launch.shared.ring + slot * a_.launch.stage_bytes;
  }
  [[nodiscard]] SIGNSPLIT_DEVICE float* reduction() const { return reinterpret_cast<float*>(stage(0)); }
  /// [tokens, d_padded], padded with zeros.
  [[nodiscard]] SIGNSPLIT_DEVICE float* x(int cta) const {
    std::byte* at = a_.launch.x_in_shared ? base_ + a_.launch.shared.x : a_.workspace + a_.layout.x + cta * a_.layout.x_bytes;
    return reinterpret_cast<float*>(at);
  }
  [[nodiscard]] SIGNSPLIT_DEVICE float* y() const { return reinterpret_cast<float*>(base_ + a_.launch.shared.y); }
  /// [consumer warps][3]: active, active_union, rechecked.
  [[nodiscard]] SIGNSPLIT_DEVICE std::uint64_t* counts(int warp) const {
    return reinterpret_cast<std::uint64_t*>(base_ + a_.launch.shared.counts) + 3 * warp;
  }
  /// [consumer warps][kMaxBatch]: a value of x that this warp loaded for the token is not finite.
  [[nodiscard]] SIGNSPLIT_DEVICE std::uint32_t* x_nonfinite(int warp) const {
    return reinterpret_cast<std::uint32_t*>(counts(a_.launch.consumer_warps)) + warp * kMaxBatch;
  }
  /// A warp's scratch for an exact sum.
  [[nodiscard]] SIGNSPLIT_DEVICE std::int64_t* limbs(int warp) const {
    return reinterpret_cast<std::int64_t*>(norms() + kMaxBatch) + 72 * warp;
  }
  [[nodiscard]] SIGNSPLIT_DEVICE double* norms() const { return reinterpret_cast<double*>(base_ + a_.launch.shared.norms); }

 private:
  [[nodiscard]] SIGNSPLIT_DEVICE std::uint64_t* words() const {
    return reinterpret_cast<std::uint64_t*>(base_ + a_.launch.shared.barriers);
  }
  [[nodiscard]] SIGNSPLIT_DEVICE int buffer(int number) const {
    return number % a_.launch.tile_buffers;
  }

  std::byte* base_;
  const KernelArguments& a_;
};

/// Makes the barriers of a block. Every stage is released by all consumer warps.
template <class Block>
SIGNSPLIT_DEVICE void init_barriers(Block& block, const KernelArguments& a) {
  const SharedState<Block> shared(block, a);
  if (block.warp() == 0) {
    for (int stage = 0; stage < a.launch.stages; ++stage) {
      block.init_for_copies(shared.full(stage));
      block.init(shared.empty(stage), a.launch.consumer_warps);
    }
    for (int buffer = 0; buffer < a.launch.tile_buffers; ++buffer) {
      for (int k = 0; k < kListKinds; ++k) {
        const auto kind = static_cast<ListKind>(k);
        block.init(shared.listed(kind, buffer), 1);
        block.init(shared.taken(kind, buffer), 1);
      }
    }
  }
  block.sync_all();
}

/// A place in the ring. Producer and consumers go through the same chunks in the same order.
class RingCursor {
 public:
  SIGNSPLIT_DEVICE explicit RingCursor(int stages) : stages_(stages) {}
  [[nodiscard]] SIGNSPLIT_DEVICE int slot() const { return slot_; }
  [[nodiscard]] SIGNSPLIT_DEVICE std::uint32_t parity() const { return parity_; }
  SIGNSPLIT_DEVICE void advance() {
    if (++slot_ < stages_) return;
    slot_ = 0;
    parity_ ^= 1u;
  }

 private:
  int stages_, slot_ = 0;
  std::uint32_t parity_ = 0;
};

/// What one stage holds: rows [first_row, first_row + rows) of a selection, columns [column, column + columns).
struct Chunk {
  int first_row, rows, column, columns;
  bool first, last;  ///< first, last segment of its rows
};

/// Cuts `rows` rows of the columns [begin, end) into chunks, in the order in which they pass through the ring.
template <class Visit>
SIGNSPLIT_DEVICE void for_chunks(const LaunchShape& launch, int rows, int begin, int end, Visit&& visit) {
  const int stage_rows = static_cast<int>(launch.stage_rows), stage_columns = static_cast<int>(launch.stage_columns);
  int row = 0, column = begin;
  while (row < rows) {  // one loop: what `visit` does is compiled once
    const int last_row = row + stage_rows < rows ? row + stage_rows : rows;
    const int last_column = column + stage_columns < end ? column + stage_columns : end;
    visit(Chunk{row, last_row - row, column, last_column - column, column == begin, last_column == end});
    column = last_column < end ? last_column : begin;
    if (last_column == end) row = last_row;
  }
}

/// The consumer warp that computes the dot products of a row of a selection.
SIGNSPLIT_DEVICE int owner_of(const LaunchShape& launch, int row) {
  return row / static_cast<int>(launch.stage_rows) % launch.consumer_warps;
}

/// A hidden tile; `number` is its place among all tiles of the block. No units: no tile.
struct Tile {
  int begin = 0, units = 0, number = 0;
};

}  // namespace signsplit::gpu
