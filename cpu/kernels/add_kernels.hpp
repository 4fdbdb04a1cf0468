// Product 2: rows of W2 added into y, j ascending, and the tree over the parts.
#pragma once

#include "int8_bytes.hpp"
#include "read_ahead.hpp"
#include "token_blocks.hpp"
#include "weight_lanes.hpp"

namespace signsplit::cpu {
namespace {

/// One token, R rows at a time: y is loaded and stored once for R additions. The rows share their scales. kElems: columns of a step.
template <class L, class T, int R, int kElems = kPartials, class Ahead>
inline void add_block(const AddRows& a, index_t i, Ahead& ahead) {
  using V = typename L::vector;
  constexpr int count = kElems / L::width;
  const T* w[R];
  V c[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    w[r] = row_of<T>(a.list, i + r);
    c[r] = L::broadcast(a.coefficients[i + r]);
  }
  float* const y_begin = a.y;  // copies, because y might be a's own memory for all that the compiler knows: it took four instructions more a line
  const index_t columns = a.columns;
  for (index_t k = 0; k < columns; k += kElems) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) ahead.template step<kElems * static_cast<int>(sizeof(T)) / 64>(r);
    const ColumnScales<L, T, count> scales(a, i, k);
#pragma GCC unroll 8
    for (int v = 0; v < count; ++v) {
      const index_t d = k + v * L::width;
      V y = L::load_aligned(y_begin + d);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) y = L::fma(c[r], scales.apply(v, L::load(w[r] + d)), y);
      L::store_aligned(y_begin + d, y);
    }
  }
}

/// Rows that nobody asks for (reads_unasked): four at a time, in steps of two lines of each, which are faster than steps of one or four.
template <class L, class T>
inline void add_rows_unasked(const AddRows& a) {
  constexpr int elems = 2 * 64 / static_cast<int>(sizeof(T));
  NothingAhead nothing;
  index_t i = 0;
  for (; i + 4 <= a.list.row_count; i += 4) add_block<L, T, 4, elems>(a, i, nothing);
  for (; i < a.list.row_count; ++i) add_block<L, T, 1, elems>(a, i, nothing);
}

/// One token, whole rows in one piece from memory, one after the other: as dot_rows_in_one_piece.
template <class L, class T>
inline void add_rows_in_one_piece(const AddRows& a) {
  constexpr int count = kPartials / L::width, lines = static_cast<int>(sizeof(T));  // of a step
  const PieceAhead ahead(a);
  const char* at = row_address(a.list, 0);
  for (index_t i = 0; i < a.list.row_count; ++i) {
    const typename L::vector c = L::broadcast(a.coefficients[i]);
    float* y = a.y;
    for (const char* const row_end = at + a.list.bytes; at < row_end;) {
      const auto [end, to] = ahead.stretch(at, row_end);
      for (; at < end; at += lines * 64, y += kPartials) {
        ask_for<1, lines>(at + to);
#pragma GCC unroll 64
        for (int v = 0; v < count; ++v) {
          const int d = v * L::width;
          L::store_aligned(y + d, L::fma(c, L::load(reinterpret_cast<const T*>(at) + d), L::load_aligned(y + d)));
        }
      }
    }
  }
}

/// As many rows at once, up to four, as 8 KiB hold. From memory one after the other: two of 4 KiB at once read at 0.83 to 0.89 of the rate
/// of plain loads, four of 2 KiB at 0.8, one at 0.94 to 0.98 (bf16, 84 GB/s); from the last-level cache one takes 1.4 times as long as four,
/// because of the loads and stores of y. With weights of one byte these weigh more than how memory is read (0.6 of the rate), and
/// so they do for rows that lie apart (1.03 times the time).
template <class L, class T>
inline void add_rows_of_token(const AddRows& a) {
  if constexpr (kFewInstructions<L, T>) {
    if (reads_unasked(a)) return add_rows_unasked<L, T>(a);
  } else if constexpr (!kScaled<T>) {
    if (in_one_piece_from_memory(a)) return add_rows_in_one_piece<L, T>(a);
  }
  constexpr index_t together = 8 * 1024;  // bytes
  ReadAhead<1> ahead(a.list, a.next, a.asked_bytes, ahead_bytes(1, sizeof(T), a.columns, 1));
  const bool one_by_one = a.from_memory && a.list.rows == nullptr && !kScaled<T>;
  const index_t count = a.list.row_count, within = one_by_one ? 1 : together / a.list.bytes;
  for (index_t i = 0; i < count;) {
    if (within >= 4 && i + 4 <= count && share_scales<T>(a, i, i + 3)) {
      ahead.template over<4>(4 * a.list.bytes, [&](auto& steps) { add_block<L, T, 4>(a, i, steps); });
      i += 4;
    } else if (within >= 2 && i + 2 <= count && share_scales<T>(a, i, i + 1)) {
      ahead.template over<2>(2 * a.list.bytes, [&](auto& steps) { add_block<L, T, 2>(a, i, steps); });
      i += 2;
    } else {
      ahead.template over<1>(a.list.bytes, [&](auto& steps) { add_block<L, T, 1>(a, i, steps); });
      ++i;
    }
  }
}

// Several tokens: a weight that is loaded and converted serves B of them, R rows at a time, while y goes through the
// first-level cache in blocks of columns. R · B coefficients stay in registers: with more rows they come from memory, one load for
// each FMA. Strips of y in registers over many rows are no faster with 16 lanes and take 1.5 times as long with 8, because
// the rows' lines then conflict in that cache. docs/cpu-speed.md lists what else did not help.

/// Vectors of columns that a step takes: a line of weights, where the registers that addresses take allow it.
template <class L, class T, int B, bool kMany = false>
constexpr int add_vectors() {
  constexpr int in_line = 64 / (L::width * static_cast<int>(sizeof(T)));
  return (kMany && B > 4) || in_line == 0 || !L::asks_next ? 1 : in_line;
}

/// Rows i, i + 1, ..., i + R − 1 of the list into columns [begin, end) of tokens [b, b + B). The rows share their scales.
template <class L, class T, int R, int B, int kVectors, class Ahead, class After>
inline void add_panel(const AddRows& a, index_t i, index_t b, index_t begin, index_t end, Ahead ahead, After after) {
  using V = typename L::vector;
  const char* row = row_address(a.list, i) + begin * static_cast<index_t>(sizeof(T));
  index_t to[R];  // the other rows: distances leave the compiler a register more than pointers and an index
  V c[R][B];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    to[r] = row_address(a.list, i + r) - row_address(a.list, i);
#pragma GCC unroll 8
    for (int t = 0; t < B; ++t) c[r][t] = L::broadcast(a.coefficients[(i + r) * a.batch + b + t]);
  }
  const index_t y_stride = a.y_stride;  // a copy, because y might be a's own memory for all that the compiler knows
  constexpr int half = B > 4 ? B / 2 : B;
  float *low = a.y + b * y_stride + begin, *high = low + half * y_stride;  // of the tokens: a pointer for each would fill the registers
  constexpr index_t step = kVectors * L::width, step_bytes = step * static_cast<index_t>(sizeof(T));
  for (index_t d = begin; d < end; d += step, row += step_bytes, low += step, high += step) {
    asm("" : "+r"(low), "+r"(high), "+r"(row));
    if constexpr (R <= 3) {
#pragma GCC unroll 8
      for (int r = 1; r < R; ++r) asm("" : "+r"(to[r]));  // or it also keeps each with the next vector's 32 bytes added
    }
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const ColumnScales<L, T, 1> scales(a, i, d + v * L::width);
      V wv[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) wv[r] = scales.apply(0, L::load(reinterpret_cast<const T*>(row + to[r]) + v * L::width));
#pragma GCC unroll 8
      for (int t = 0; t < B; ++t) {
        ahead.step(v * B + t, kVectors * B);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          if (v * B + t == (2 * r + 1) * kVectors * B / (2 * R)) after.step(row + to[r]);
        }
        float* const y = (t < half ? low + t * y_stride : high + (t - half) * y_stride) + v * L::width;
        V sum = L::load_aligned(y);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sum = L::fma(c[r][t], wv[r], sum);
        L::store_aligned(y, sum);
      }
    }
  }
}

/// Calls panel(number of rows as a constant, first row) for rows [first, last) of the list, R at a time where they share their scales.
template <class T, int R, class Panel>
inline void for_panels(const AddRows& a, index_t first, index_t last, Panel&& panel) {
  for (index_t i = first; i < last;) {
    if (i + R <= last && share_scales<T>(a, i, i + R - 1)) {
      panel(Constant<R>{}, i);
      i += R;
    } else {
      panel(Constant<1>{}, i);
      ++i;
    }
  }
}

/// All B tokens, whose y stays in the first-level cache. The rows are one stream, or two. Where memory is fast, each line is asked for
/// once and 16 KiB ahead: product 2 of 4 tokens of 2048x8192 in bf16 then takes 0.91 to 0.92 of the time (12, 20 and 24 KiB: 0.94, 0.92, 0.92; 8 and 10 KiB,
/// or 16 KiB twice: no gain; into the second level 0.96); where memory is slow 1.02 times.
template <class L, class T, int B, RequestStyle kStyle>
inline void add_rows_in_order(const AddRows& a) {
  constexpr bool fast = kStyle == RequestStyle::fast_memory;
  constexpr int R = L::add_rows(B);
  const index_t of_product_1 = ahead_bytes(B, sizeof(T), a.columns, tokens_in_registers<L>()), distance = fast ? 16 * 1024 : of_product_1;
  ReadAhead<1> ahead(a.list, a.next, a.asked_bytes < of_product_1 ? a.asked_bytes : of_product_1, distance);
  const auto panel = [&](auto rows, index_t i) {
    constexpr int n = decltype(rows)::value, line_elems = 64 / static_cast<int>(sizeof(T));
    ahead.template pace_over<n, !fast>(n * a.list.bytes, a.columns / line_elems, [&](auto requests) {
      add_panel<L, T, n, B, add_vectors<L, T, B>()>(a, i, 0, 0, a.columns, requests, NothingAfter{});
    });
  };
  if (R * a.list.bytes <= distance) {
    index_t i = 0;
    if constexpr (!kScaled<T>) {  // most of a list in one loop: through the cursor, which lives in memory, a call of 4 tokens took 1.01 times the time
      const index_t bytes = R * a.list.bytes, left = a.list.row_count / R, straight = ahead.blocks_in_piece(bytes), blocks = left < straight ? left : straight;
      const char* at = ahead.pass(blocks, bytes);
      for (; i < blocks * R; i += R, at += bytes) {
        add_panel<L, T, R, B, add_vectors<L, T, B>()>(a, i, 0, 0, a.columns, StraightStretch<1, R, !fast>(at), NothingAfter{});
      }
    }
    for_panels<T, R>(a, i, a.list.row_count, panel);
  } else {
    for_panels<T, 1>(a, 0, a.list.row_count, panel);
  }
}

inline constexpr index_t kPageBytes = 4096;  // at whose end the processor stops reading ahead by itself

/// Rows [first, last) of the list, which lie within the distance of the cursor and so in the second-level cache by now. kMany, for batches
/// of more than a block: the core is the limit, and what memory gives is asked for in as few requests as do. That takes 0.94 of the time
/// (16 tokens, bf16); with four tokens left over, six rows at once and not two, 0.9.
template <class L, class T, int B, bool kMany>
inline void add_row_group(const AddRows& a, index_t first, index_t last, index_t b, ReadAhead<2>& ahead, index_t passes) {
  constexpr int R = kMany && B == 4 ? 6 : L::add_rows(B);
  for (index_t begin = 0; begin < a.columns; begin += kSliceElems<B>) {
    const index_t end = begin + kSliceElems<B> < a.columns ? begin + kSliceElems<B> : a.columns;
    for_panels<T, R>(a, first, last, [&](auto rows, index_t i) {
      constexpr int n = decltype(rows)::value, elem_bytes = static_cast<int>(sizeof(T));
      constexpr int vectors = add_vectors<L, T, B, kMany>(), step_bytes = vectors * L::width * elem_bytes, lines = (n * step_bytes + 63) / 64;
      const index_t bytes = n * elem_bytes * (end - begin), steps = elem_bytes * (end - begin) / step_bytes;
      if constexpr (kMany) {  // two passes at least, so half the lines are enough
        add_panel<L, T, n, B, vectors>(a, i, b, begin, end, ahead.pace<(lines + 1) / 2>(bytes, passes, steps), NothingAfter{});
      } else {
        const bool more = i + n < last, again = more || end < a.columns;
        const index_t row = more ? i + n : again ? first : last, column = more ? begin : again ? end : 0;
        const RowsAfter<L> after(a.list, row, column, row_of<T>(a.list, i) + begin);
        if constexpr (B > 4) {  // the core is the limit: the next pieces only where they are farther away than the processor looks ahead
          ahead.pace_over<lines>(bytes, steps, [&](auto requests) {
            if (a.list.row_bytes > kPageBytes) {
              add_panel<L, T, n, B, vectors>(a, i, b, begin, end, requests, after);
            } else {
              add_panel<L, T, n, B, vectors>(a, i, b, begin, end, requests, NothingAfter{});
            }
          });
        } else {
          add_panel<L, T, n, B, vectors>(a, i, b, begin, end, ahead.pace<lines>(bytes, passes, steps), after);
        }
      }
    });
  }
}

template <class L, class T, bool kMany>
inline void add_rows_of_batch(const AddRows& a) {
  const index_t distance = ahead_bytes(a.batch, sizeof(T), a.columns, tokens_in_registers<L>());
  ReadAhead<2> ahead(a.list, a.next, a.asked_bytes, distance);
  index_t passes = 0;  // that go over a row: together they move the cursor by that row
  for_token_blocks<L>(a.batch, [&](auto, index_t) { ++passes; });
  constexpr index_t at_least = 24;  // a multiple of the rows at once for 8, 4, 3 and 2 tokens
  const index_t within = distance / a.list.bytes / at_least * at_least, rows = within > 0 ? within : at_least;
  for (index_t i = 0; i < a.list.row_count; i += rows) {
    const index_t end = i + rows < a.list.row_count ? i + rows : a.list.row_count;
    for_token_blocks<L>(a.batch, [&](auto size, index_t b) { add_row_group<L, T, decltype(size)::value, kMany>(a, i, end, b, ahead, passes); });
  }
}

template <class L, class T>
void add_rows(const AddRows& a) {
  if constexpr (tokens_in_registers<L>() > 1) {
    if (in_row_order(a.batch, a.columns, tokens_in_registers<L>())) {
      const auto in_order = [&](auto tokens) {
        constexpr int B = decltype(tokens)::value;
        if constexpr (B == 4) {
          if (a.style == RequestStyle::fast_memory) return add_rows_in_order<L, T, B, RequestStyle::fast_memory>(a);
        }
        add_rows_in_order<L, T, B, RequestStyle::slow_memory>(a);
      };
      return a.batch == 4 ? in_order(Constant<4>{}) : a.batch == 3 ? in_order(Constant<3>{}) : in_order(Constant<2>{});
    }
  }
  if (a.batch == 1) {
    if constexpr (kScaled<T> && L::multiplies_bytes) {
      if (add_bytes_rows<L>(a)) return;
    }
    return add_rows_of_token<L, T>(a);
  }
  if constexpr (L::batch_tokens > 4) {
    if (a.batch > L::batch_tokens) return add_rows_of_batch<L, T, true>(a);
  }
  add_rows_of_batch<L, T, false>(a);
}

template <class L>
void add_part(const AddPart& a) {
  // Another core has written one of the two: all of it is asked for at once.
  for (index_t d = 0; d < a.elems; d += 16) {
    __builtin_prefetch(a.into + d, 1);
    __builtin_prefetch(a.from + d);
  }
  for (index_t d = 0; d < a.elems; d += L::width) L::store_aligned(a.into + d, L::add(L::load_aligned(a.into + d), L::load_aligned(a.from + d)));
}

}  // namespace
}  // namespace signsplit::cpu
