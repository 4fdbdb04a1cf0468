// The producer warp: fills the ring's stages with rows of the weights, as far ahead as there are free stages.
#pragma once

#include "tile_schedule.hpp"

namespace signsplit::gpu {

/// Issues the copies of a selection of rows.
template <class Block>
class RowCopier {
 public:
  SIGNSPLIT_DEVICE RowCopier(Block& block, const KernelArguments& a)
      : block_(block), a_(a), shared_(block, a), cursor_(a.launch.stages), elem_bytes_(dtype_bytes(a.problem.dtype)) {}

  /// Rows [first, first + rows) of a matrix, columns [begin, end).
  SIGNSPLIT_DEVICE void copy_range(const std::byte* matrix, index_t first, index_t rows, index_t begin, index_t end) {
    const index_t row_bytes = a_.shape.d_padded * elem_bytes_;
    const bool whole_rows = begin == 0 && end == a_.shape.d_padded && a_.launch.stage_columns >= end;
    for_chunks(a_.launch, rows, begin, end, [&](const Chunk& chunk) {
      const std::byte* from = matrix + (first + chunk.first_row) * row_bytes + chunk.column * elem_bytes_;
      if (whole_rows) {  // they lie one after the other: one copy
        fill(chunk.rows * row_bytes, 1, [&](index_t) { return from; });
      } else {
        fill(chunk.columns * elem_bytes_, chunk.rows, [&](index_t row) { return from + row * row_bytes; });
      }
    });
  }

  /// Rows first + rows[i] of a matrix, whole, for the rows of list `number`; waits until it is written.
  SIGNSPLIT_DEVICE void copy_list(const std::byte* matrix, index_t first, ListKind kind, index_t number) {
    block_.wait(shared_.listed(kind, number), shared_.list_parity(number));
    const RowList list = shared_.list(kind, number);
    const index_t row_bytes = a_.shape.d_padded * elem_bytes_;
    typename Block::template PerLane<std::int32_t> count;
    block_.lanes([&](int lane) { count[lane] = block_.load(list.count); });
    for_chunks(a_.launch, block_.uniform(count), 0, a_.shape.d_padded, [&](const Chunk& chunk) {
      fill(chunk.columns * elem_bytes_, chunk.rows, [&](index_t row) {
        const index_t unit = first + block_.load(list.rows + chunk.first_row + row);
        return matrix + unit * row_bytes + chunk.column * elem_bytes_;
      });
    });
    block_.arrive(shared_.taken(kind, number));
  }

 private:
  template <class Source>
  SIGNSPLIT_DEVICE void fill(index_t bytes, index_t rows, Source&& source) {
    const int slot = cursor_.slot();
    block_.wait(shared_.empty(slot), cursor_.parity() ^ 1u);  // the first time round every stage is free
    block_.copy_rows(shared_.stage(slot), bytes, rows, source, shared_.full(slot), a_.evict_first);
    cursor_.advance();
  }

  Block& block_;
  const KernelArguments& a_;
  SharedState<Block> shared_;
  RingCursor cursor_;
  index_t elem_bytes_;
};

/// The producer's side of unfused and row_fused. See TileSchedule for the steps.
template <class Block>
class ProducerSteps {
 public:
  SIGNSPLIT_DEVICE ProducerSteps(Block& block, const KernelArguments& a) : a_(a), copier_(block, a) {}

  SIGNSPLIT_DEVICE void begin(index_t, Phase phase) { phase_ = phase; }
  SIGNSPLIT_DEVICE void finish() {}
  SIGNSPLIT_DEVICE void count_tile() {}
  SIGNSPLIT_DEVICE void reduce(ColumnRange) {}
  SIGNSPLIT_DEVICE void dense(HiddenRange hidden, index_t) {
    if (phase_ == Phase::second_product) return;
    const DeviceWeights& w = a_.weights;
    if (a_.problem.gated) copier_.copy_range(w.gate, hidden.begin, hidden.size(), 0, a_.shape.d_padded);
    if (!a_.problem.gated || !a_.plan.skip) copier_.copy_range(w.up, hidden.begin, hidden.size(), 0, a_.shape.d_padded);
  }
  SIGNSPLIT_DEVICE void selected(HiddenRange hidden, index_t number) {
    if (phase_ != Phase::second_product) copier_.copy_list(a_.weights.up, hidden.begin, ListKind::up, number);
  }
  SIGNSPLIT_DEVICE void down(HiddenRange hidden, index_t number) {
    if (phase_ == Phase::first_product) return;
    if (!a_.plan.skip) {
      copier_.copy_range(a_.weights.down, hidden.begin, hidden.size(), 0, a_.shape.d_padded);
    } else {
      copier_.copy_list(a_.weights.down, hidden.begin, ListKind::down, number);
    }
  }

 private:
  const KernelArguments& a_;
  RowCopier<Block> copier_;
  Phase phase_ = Phase::fused;
};

}  // namespace signsplit::gpu
