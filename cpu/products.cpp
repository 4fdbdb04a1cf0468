// TileSink's kernel calls: what they are told, what they read ahead, and how they are shared at the end of a phase.
#include <algorithm>

#include "tile_sink.hpp"

namespace signsplit::cpu {

/// Bytes at the start of `now` that the call before has asked for; notes that this call will go on to ask for `next`.
index_t TileSink::announce(const RowList& now, const RowList& next) {
  const auto first = [](const RowList& list) { return list.rows == nullptr ? list.first : list.rows[0]; };
  const index_t asked = announced_.matrix == now.matrix && announced_.first == first(now) ? announced_.bytes : 0;
  announced_ = {};
  if (next.row_count > 0) announced_ = {next.matrix, first(next), next.bytes * next.row_count};
  return asked;
}

namespace {

const std::uint16_t* scale_bits(std::span<const bf16> scales) { return scales.empty() ? nullptr : &scales.data()->bits; }

// ---- calls in pieces ----

constexpr index_t kChunkBytes = 128 * 1024;  // 3 us of one core's reading: what a worker at most waits for at the end of a shared call
constexpr index_t kWorthSharing = 256 * 1024;        // left of a call
constexpr index_t kPieceRowBytes = 2048, kLeastPieceRowBytes = 1024;  // of each row, where pieces are columns: with less, memory gives less

/// Rows of one chunk: full blocks of what the kernels do at once, for one token and for several.
index_t chunk_rows(const RowList& list, index_t batch) {
  const index_t at_least = std::max(ceil_div(kChunkBytes, list.bytes), ceil_div(list.row_count, Crew::kMostPieces));
  return round_up(at_least, batch > 1 ? 24 : kRowsAtOnce);
}

RowList rows_between(const RowList& list, index_t begin, index_t end) {
  RowList some = list;
  some.row_count = end - begin;
  if (list.rows != nullptr) {
    some.rows += begin;
  } else {
    some.first += begin;
  }
  return some;
}

/// A call that goes over its rows in chunks, from row `first` on.
template <class Rows>
struct ChunkedCall {
  void (*kernel)(const Rows&);
  const Rows& all;
  index_t first, rows;    ///< rows: of a chunk
  index_t workers = 1;    ///< who share it
};

void run_rows(void (*kernel)(const DotRows&), const DotRows& a, const RowList& rows, index_t begin, const RowList& next, index_t asked_bytes) {
  const index_t sums = begin * a.batch;
  float* const partials = a.partials == nullptr || a.places != nullptr ? a.partials : a.partials + sums * kAccumulators;
  kernel({rows, next, asked_bytes, a.x, a.x_stride, a.packed_x, a.batch, a.k, a.first, a.last, partials, a.sums + sums,
          a.absolute_sums == nullptr ? nullptr : a.absolute_sums + sums, a.scales, a.scale_stride, a.group, a.k_begin, a.running,
          a.places == nullptr ? nullptr : a.places + begin, a.from_memory});
}

void run_rows(void (*kernel)(const AddRows&), const AddRows& a, const RowList& rows, index_t begin, const RowList& next, index_t asked_bytes) {
  kernel({rows, next, asked_bytes, a.coefficients + begin * a.batch, a.y, a.y_stride, a.batch, a.columns, a.scales, a.group, a.scale_stride,
          a.from_memory, a.style});
}

void run_dot_piece(const void* pointer, index_t piece) {
  const auto& call = *static_cast<const ChunkedCall<DotRows>*>(pointer);
  const index_t begin = call.first + piece * call.rows, end = std::min(begin + call.rows, call.all.list.row_count);
  run_rows(call.kernel, call.all, rows_between(call.all.list, begin, end), begin, {}, 0);
}

/// Wide pieces: with 1 KiB in place of 2 of each row a call of 9 parts by two workers took 1.02 times as long (2624x2304 bf16). Where more
/// workers share a call, smaller ones.
index_t columns_of_piece(const ChunkedCall<AddRows>& call) {
  const index_t bytes = call.all.list.bytes, for_all = std::min(call.workers, bytes / kLeastPieceRowBytes);
  const index_t pieces = std::clamp<index_t>(std::max(bytes / kPieceRowBytes, for_all), 2, Crew::kMostPieces);
  return round_up(ceil_div(call.all.columns, pieces), kAccumulators);
}

/// Columns of the rows that are left.
void run_add_piece(const void* pointer, index_t piece) {
  const auto& call = *static_cast<const ChunkedCall<AddRows>*>(pointer);
  const AddRows& a = call.all;
  const index_t columns = columns_of_piece(call), begin = piece * columns, end = std::min(begin + columns, a.columns);
  const index_t elem_bytes = a.list.bytes / a.columns;
  RowList rows = rows_between(a.list, call.first, a.list.row_count);
  rows.matrix = static_cast<const char*>(rows.matrix) + begin * elem_bytes;
  rows.bytes = (end - begin) * elem_bytes;
  const RowList none;
  call.kernel({rows, none, 0, a.coefficients + call.first * a.batch, a.y + begin, a.y_stride, a.batch, end - begin,
               a.scales == nullptr ? nullptr : a.scales + begin, a.group, a.scale_stride, a.from_memory, a.style});
}

SharedCall shared(const ChunkedCall<DotRows>& call) { return {run_dot_piece, &call}; }
SharedCall shared(const ChunkedCall<AddRows>& call) { return {run_add_piece, &call}; }
index_t pieces_of(const ChunkedCall<DotRows>& call) { return ceil_div(call.all.list.row_count - call.first, call.rows); }
index_t pieces_of(const ChunkedCall<AddRows>& call) { return ceil_div(call.all.columns, columns_of_piece(call)); }

}  // namespace

/// The kernel on its rows. Once no item is left to take, chunk by chunk, until another worker has nothing to do: what is left then is
/// shared with it. Not several tokens, where each worker has had a part: chunks and pieces cost them more than the help is worth (in fast
/// memory 4 tokens of 2048x8192 1.02 times the time, 8 tokens 1.01, 16 tokens and skip at 10 % open 1.0).
template <class Rows>
void TileSink::run_kernel(void (*kernel)(const Rows&), const Rows& all) {
  const bool alone = help_.crew == nullptr || (all.batch > 1 && run_.plan.parts >= help_.queue->workers());
  if (alone || all.list.row_count * all.list.bytes < kWorthSharing || !help_.queue->drained()) {
    kernel(all);
    return;
  }
  const index_t count = all.list.row_count;
  ChunkedCall<Rows> call{kernel, all, 0, chunk_rows(all.list, all.batch)};
  for (index_t asked = all.asked_bytes; call.first < count; call.first += call.rows) {
    const index_t end = std::min(call.first + call.rows, count);
    if ((count - call.first) * all.list.bytes >= kWorthSharing && help_.crew->idle() > 0) {
      call.workers = help_.crew->idle() + 1;
      help_.crew->share(help_.worker, shared(call), pieces_of(call));
      announced_ = {};
      return;
    }
    const RowList after = rows_between(all.list, end, count);
    run_rows(kernel, all, rows_between(all.list, call.first, end), call.first, end < count ? after : all.next, asked);
    asked = after.row_count * after.bytes;
  }
}

void TileSink::dot_floats(Matrix matrix, const RowList& rows, KRange k, float* partials, float* sums,
                          float* absolute_sums, const RowList& next) {
  const Weights& w = run_.weights;
  const DotRows args{rows,
                     next,
                     announce(rows, next),
                     run_.workspace.x + k.begin,
                     run_.shape.d_padded,
                     run_.workspace.packed_x,
                     run_.problem.batch,
                     k.size(),
                     k.first,
                     k.last,
                     partials,
                     sums,
                     absolute_sums,
                     scale_bits(matrix == Matrix::gate ? w.gate_scales() : w.up_scales()),
                     w.input_groups(),
                     w.group(),
                     k.begin,
                     judges_again_,
                     tile_.places,
                     run_.from_memory};
  const auto type = static_cast<std::size_t>(run_.weights.dtype());
  run_kernel((absolute_sums != nullptr ? run_.kernels.dot_streams : run_.kernels.dot)[type], args);
}

void TileSink::dot(Matrix matrix, const RowList& rows, KRange k, float* partials, float* sums, float* absolute_sums,
                   const RowList& next) {
  if (rows.row_count == 0) return;
  if (!integers()) {
    dot_floats(matrix, rows, k, partials, sums, absolute_sums, next);
  } else if (k.last) {
    dot_integers(matrix, rows, k, sums, next);
  }
  const auto bytes = static_cast<std::uint64_t>(rows.row_count * rows.bytes);
  (matrix == Matrix::gate ? statistics_.bytes_gate : statistics_.bytes_up) += bytes;
  statistics_.bytes_scales += static_cast<std::uint64_t>(rows.row_count * scale_count(run_.problem, k.begin, k.end) * kScaleBytes);
}

void TileSink::add_rows(const RowList& rows, const float* coefficients, const RowList& next) {
  if (rows.row_count == 0) return;
  const AddRows args{rows,    next,     announce(rows, next), coefficients,
                     y_part_, run_.workspace.y_stride, run_.problem.batch, run_.shape.d_padded,
                     scale_bits(run_.weights.down_scales()), run_.weights.group(), run_.shape.d_padded, run_.from_memory, run_.style};
  run_kernel(run_.kernels.add[static_cast<std::size_t>(run_.weights.dtype())], args);
  statistics_.bytes_down += static_cast<std::uint64_t>(rows.row_count) * row_bytes();
}

}  // namespace signsplit::cpu
