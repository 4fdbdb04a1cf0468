// Dot products with rows that are restored from the certificate's plane and the residual (signsplit/residual.hpp). A row is
// restored whole, as f32 and bit for bit, into memory that stays in the first-level cache, and multiplied there in the
// canonical order. As for all kernels: no heavy headers.
#pragma once

#include "kernel_table.hpp"

namespace signsplit::cpu {

struct RestoredDot {
  const RowList& list;                ///< rows of the residual, as ResidualLayout has them
  const RowList& next;                ///< read after them: its first row is asked for meanwhile
  index_t asked_bytes;                ///< of the start of `list`, by the call before
  const signed char* planes;          ///< [row_count, columns] q
  const std::uint16_t* scales;        ///< [row_count, groups] bfloat16 bits
  index_t columns, group, groups;     ///< columns and group: multiples of 64
  index_t positions_offset, escapes_offset;
  const std::int32_t* raw_numbers;    ///< by row number: where in `raw` a row lies that has no residual, or −1; null: none
  const void* raw;                    ///< rows as stored, `columns` elements each
  const float* x;                     ///< [batch, columns]
  const float* packed_x;              ///< several tokens: as pack_x lays it out
  index_t batch;
  float* rows;                        ///< scratch, [restored_rows(batch), columns], 64-byte aligned
  float* sums;                        ///< [row_count, batch]
};

/// Rows that are restored before they are multiplied: of several tokens some, since each use of a slice of x serves all of them.
constexpr index_t restored_rows(index_t batch) { return batch > 1 ? 12 : 1; }
/// Rows that are asked for before the first is restored, and how many rows ahead of its use each is.
constexpr index_t restored_rows_ahead(index_t row_bytes) { return ceil_div(kBytesAhead, row_bytes); }

/// By DType: f32, bf16, f16. (int8 weights have no residual.)
struct RestoredKernels {
  void (*dot[3])(const RestoredDot&);
};
extern const RestoredKernels restored_scalar;
extern const RestoredKernels restored_avx2;    // x86-64 builds only, as the next
extern const RestoredKernels restored_avx512;

}  // namespace signsplit::cpu
