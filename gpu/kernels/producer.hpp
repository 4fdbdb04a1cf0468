// The producer warp: fills the ring's stages with rows of the weights, as far ahead as there are free stages.
#pragma once

#include "plane.hpp"
#include "tile_schedule.hpp"

namespace signsplit::gpu {

/// Issues the copies of a selection of rows.
template <class Block>
class RowCopier {
 public:
  SIGNSPLIT_DEVICE RowCopier(Block& block, const KernelArguments& a)
      : block_(block), a_(a), shared_(block, a), cursor_(a.launch.stages), elem_bytes_(static_cast<int>(dtype_bytes(a.problem.dtype))) {}

  /// Rows [first, first + rows) of a matrix, columns [begin, end).
  SIGNSPLIT_DEVICE void copy_range(const std::byte* matrix, int first, int rows, int begin, int end) {
    copy(matrix, first, rows, begin, end, nullptr);
  }

  /// Rows first + rows[i] of a matrix, whole, for the rows of list `number`; waits until it is written.
  SIGNSPLIT_DEVICE void copy_list(const std::byte* matrix, int first, ListKind kind, int number) {
    block_.wait(shared_.listed(kind, number), shared_.list_parity(number));
    const RowList list = shared_.list(kind, number);
    typename Block::template PerLane<std::int32_t> count;
    block_.lanes([&](int lane) { count[lane] = block_.load(list.count); });
    copy(matrix, first, block_.uniform(count), 0, static_cast<int>(a_.shape.d_padded), list.rows);
    block_.arrive(shared_.taken(kind, number));
  }

  /// The panels of the certificate that hold a tile's rows.
  SIGNSPLIT_DEVICE void copy_plane(Tile tile) {
    const PanelLayout& layout = a_.plane.layout;
    for_plane_chunks(a_, tile, [&](const PlaneChunk& chunk) {
      const std::byte* from = a_.plane.panels + chunk.panel * layout.bytes() + plane_chunk_offset(layout, chunk);
      const int slot = cursor_.slot();
      block_.wait(shared_.empty(slot), cursor_.parity() ^ 1u);
      block_.copy_rows(shared_.stage(slot), plane_chunk_bytes(layout, chunk), 1, [&](int) { return from; },
                       shared_.full(slot), a_.evict_first);
      cursor_.advance();
    });
  }

 private:
  SIGNSPLIT_DEVICE void copy(const std::byte* matrix, int first, int rows, int begin, int end, const std::int32_t* list) {
    const index_t row_bytes = a_.shape.d_padded * elem_bytes_;
    const bool neighbours = list == nullptr && begin == 0 && end == a_.shape.d_padded && a_.launch.stage_columns >= end;
    for_chunks(a_.launch, rows, begin, end, [&](const Chunk& chunk) {
      const int slot = cursor_.slot();
      block_.wait(shared_.empty(slot), cursor_.parity() ^ 1u);  // the first time round every stage is free
      const int bytes = chunk.columns * elem_bytes_;
      const std::byte* from = matrix + chunk.column * elem_bytes_;
      // Whole rows in order lie one after the other: one copy.
      block_.copy_rows(shared_.stage(slot), neighbours ? chunk.rows * bytes : bytes, neighbours ? 1 : chunk.rows,
                       [&](int row) {
                         const int at = chunk.first_row + row;
                         return from + (first + (list == nullptr ? at : block_.load(list + at))) * row_bytes;
                       },
                       shared_.full(slot), a_.evict_first);
      cursor_.advance();
    });
  }

  Block& block_;
  const KernelArguments& a_;
  SharedState<Block> shared_;
  RingCursor cursor_;
  int elem_bytes_;
};

/// The producer's side of unfused and row_fused. See run_parts for the rounds.
template <class Block>
class ProducerSteps {
 public:
  SIGNSPLIT_DEVICE ProducerSteps(Block& block, const KernelArguments& a) : a_(a), copier_(block, a) {}

  SIGNSPLIT_DEVICE void begin(index_t, Phase phase, const TileFinder&) { phase_ = phase; }
  SIGNSPLIT_DEVICE void finish() {}
  SIGNSPLIT_DEVICE void round(const Round& round) {
    const DeviceWeights& w = a_.weights;
    const int columns = static_cast<int>(a_.shape.d_padded);
    const bool gated = a_.problem.gated, loads_h = phase_ == Phase::second_product;
    if (round.plane.units > 0) copier_.copy_plane(round.plane);
    if (round.first.units > 0 && !loads_h) {
      const std::byte* matrix = gated ? w.gate : w.up;
      if (a_.plan.strategy == Strategy::certified) {
        copier_.copy_list(matrix, round.first.begin, ListKind::survivors, round.first.number);
      } else {
        copier_.copy_range(matrix, round.first.begin, round.first.units, 0, columns);
        if (gated && !a_.plan.skip) copier_.copy_range(w.up, round.first.begin, round.first.units, 0, columns);
      }
    }
    if (round.selected.units > 0 && !loads_h) {
      copier_.copy_list(w.up, round.selected.begin, ListKind::up, round.selected.number);
    }
    if (phase_ == Phase::first_product || round.down.units == 0) return;
    if (a_.plan.skip) {
      copier_.copy_list(w.down, round.down.begin, ListKind::down, round.down.number);
    } else {
      copier_.copy_range(w.down, round.down.begin, round.down.units, 0, columns);
    }
  }

 private:
  const KernelArguments& a_;
  RowCopier<Block> copier_;
  Phase phase_ = Phase::fused;
};

}  // namespace signsplit::gpu
