// The interface between the executor and its tile kernels: plain structs and function pointers, no standard library.
// Kernels know no schedule: they are told which rows and which columns, and in which order they add is part of their
// contract. Files in this folder include no heavy headers, because an inline function compiled for AVX-512 here could be
// picked by the linker for everybody.
#pragma once

#include "signsplit/portability.hpp"

namespace signsplit::cpu {

/// Rows of a packed matrix in the order in which they are read, the same `bytes` from each: whole rows, or their part of
/// one K tile.
struct RowList {
  const void* matrix = nullptr;   ///< hidden-major; advanced to the first column that is read
  index_t row_bytes = 0;          ///< from one row to the next
  index_t bytes = 0;              ///< read of each row, a multiple of 64 elements
  const index_t* rows = nullptr;  ///< [row_count] row numbers; null: first, first + 1, ...
  index_t first = 0;
  index_t row_count = 0;
};

/// How far ahead of what they read the kernels prefetch. One token: into the first-level cache, farther where a weight is one byte,
/// because there the core computes for as long as the memory reads (6 KiB: 1.2 times the time of 16 KiB, at 75 GB/s). Several tokens
/// whose x the first-level cache holds beside the rows: rows are read one after the other as for one token, and asked for into that
/// cache too. More tokens, longer rows: into the second level, a block of rows ahead.
inline constexpr index_t kBytesAhead = 6 * 1024;
/// `row_elems`: of a whole row; `in_registers`: tokens whose partial sums of a row the registers hold (KernelTable).
constexpr bool in_row_order(index_t batch, index_t row_elems, index_t in_registers) {
  constexpr index_t x_elems = 8 * 1024;  // 32 KiB
  return batch > 1 && batch <= in_registers && batch * row_elems <= x_elems;
}
constexpr index_t ahead_bytes(index_t batch, index_t elem_bytes, index_t row_elems, index_t in_registers) {
  if (batch == 1) return elem_bytes == 1 ? 16 * 1024 : kBytesAhead;
  if (in_row_order(batch, row_elems, in_registers)) return 10 * 1024;
  return (batch > 8 ? 192 : 128) * 1024;
}

inline constexpr index_t kApartBytesAhead = 8 * 1024;  // in rows that lie apart, at least: 6 KiB took 1.06 times the time (768x3072 bf16)

/// Rows of one token that lie apart are read several at once (apart_rows.hpp); a piece of each is asked for before they are.
inline constexpr index_t kRowsAtOnce = 4, kPieceBytes = 1536;
constexpr bool are_apart(const RowList& list) { return list.rows != nullptr && list.bytes >= kPieceBytes + 512; }

/// Two ways of asking for rows that come from memory, named after the memory that each suits. Requests change no bit, so the executor may
/// try both (StyleChooser).
enum class RequestStyle : unsigned char { slow_memory, fast_memory };

/// What is read after this call is known for most calls: `next`. The kernels ask for it (prefetch) while they compute the
/// last of their own rows. `asked_bytes`: how much of the start of their own list the call before has asked for. Neither
/// changes a result.

/// Dot products of some rows of a matrix with every token, over a K tile.
///   partials[i][b][p] continues from earlier K tiles unless `first`; p takes k ≡ p (mod 64), ascending, one FMA each;
///   when `last`, sums[i][b] = fold of the 64 partials (upper half onto the lower: 32, 16, 8, 4, 2, 1).
struct DotRows {
  const RowList& list;        ///< by reference: copies would wait for the stores that made them, and the loads before those
  const RowList& next;
  index_t asked_bytes;
  const float* x;             ///< [batch, x_stride], advanced to the first column of the K tile
  index_t x_stride;           ///< elements
  const float* packed_x;      ///< several tokens: all of x as pack_x lays it out; not advanced
  index_t batch;
  index_t k;                  ///< elements in the K tile, a multiple of 64
  bool first, last;
  float* partials;            ///< [row_count, batch, 64]; may be null when first && last
  float* sums;                ///< [row_count, batch]; written when last, or running
  float* absolute_sums;       ///< dot_streams only: [row_count, batch], Σ|x||w| by the same order
  const std::uint16_t* scales;  ///< int8: bfloat16 bits [F, scale_stride]; a weight is scale · q, exactly
  index_t scale_stride;         ///< int8: groups per row
  index_t group;                ///< int8: elements that share a scale; 0: the whole row
  index_t k_begin;              ///< element of the row at which the K tile begins
  bool running = false;         ///< one token: sums after every K tile, of what was added by then
  const std::uint32_t* places = nullptr;  ///< one token: [row_count], partials of row i are at [places[i]]; null: at [i]
  bool from_memory = false;     ///< one token, or rows in order (in_row_order): they are not expected in a cache
};

/// Lays x out in the order in which dot reads it for several tokens. Once per run.
struct PackX {
  const float* x;             ///< [batch, elems]
  index_t batch, elems;       ///< elems: a multiple of 64
  float* packed;              ///< [batch · elems], 64-byte aligned
};

/// y[b] += Σ_i coefficients[i][b] · row i of the list, i ascending, one FMA per element.
struct AddRows {
  const RowList& list;
  const RowList& next;
  index_t asked_bytes;
  const float* coefficients;  ///< [row_count, batch]
  float* y;                   ///< [batch, y_stride], 64-byte aligned
  index_t y_stride;           ///< elements
  index_t batch;
  index_t columns;            ///< a multiple of 64
  const std::uint16_t* scales;  ///< int8: bfloat16 bits [groups of rows, scale_stride], advanced to the first column
  index_t group;                ///< int8: rows that share a row of scales; 0: all
  index_t scale_stride;         ///< int8: elements from one row of scales to the next
  bool from_memory = false;     ///< one token: the rows are not expected in a cache
  RequestStyle style = RequestStyle::slow_memory;  ///< 4 tokens, rows in order
};

/// One addition of the tree over the parts: into += from.
struct AddPart {
  float* into;                ///< [elems], 64-byte aligned
  const float* from;
  index_t elems;              ///< a multiple of 64
};

/// Which of some pre-activations of an ungated FFN are open, and their activations, where these have a threshold: z ≤ threshold is closed
/// and gives +0, a NaN is open. activation.hpp has the definition.
struct OpenUnits {
  const float* pre;           ///< [count]
  index_t count;
  float threshold;
  bool squared;               ///< relu2
  std::uint8_t* open;         ///< [count], 0 or 1
  float* h;                   ///< [count]
};
/// Of the units of a tile: open units of every token, units that are open for any token.
struct OpenCounts {
  std::uint64_t all, of_any_token;
};

inline constexpr int kStoredTypes = 4;  // f32, bf16, f16, int8: the order of DType

struct KernelTable {
  const char* isa;  ///< what the file was really compiled for
  index_t tokens_in_registers;
  void (*pack_x)(const PackX&);
  void (*dot[kStoredTypes])(const DotRows&);          ///< by DType
  void (*dot_streams[kStoredTypes])(const DotRows&);  ///< by DType; needs first && last
  void (*add[kStoredTypes])(const AddRows&);          ///< by DType
  void (*add_part)(const AddPart&);
  void (*add_bias)(const float* bias, index_t units, index_t batch, float* sums);  ///< sums [units, batch] += bias [units]
  void (*open_units)(const OpenUnits&);
  void (*count_open)(const std::uint8_t* open, index_t units, index_t batch, OpenCounts& counts);  ///< open [units, batch], 0 or 1
  /// h[i] = activation(z[i]) for i < count, as smooth_activation.hpp defines it; h may be z. No alignment.
  void (*gelu)(const float* z, index_t count, float* h);
  void (*gelu_tanh)(const float* z, index_t count, float* h);
  void (*silu)(const float* z, index_t count, float* h);
};

/// One table per instruction set. avx2 and avx512 exist in x86-64 builds only.
extern const KernelTable kernels_scalar;
extern const KernelTable kernels_avx2;
extern const KernelTable kernels_avx512;

}  // namespace signsplit::cpu
