// Product 1: dot products of rows with every token, in the canonical order (64 partial sums, then a tree). One token here, several in
// dot_tokens.hpp.
#pragma once

#include "dot_tokens.hpp"
#include "int8_bytes.hpp"

namespace signsplit::cpu {
namespace {

/// Partial sums of row i of the list, one token.
inline float* partials_of(const DotRows& a, index_t i) {
  return a.partials + (a.places != nullptr ? static_cast<index_t>(a.places[i]) : i) * kPartials;
}

/// One token: R rows, `apart` from one to the next in the list, with all their partial sums in registers.
template <class L, class T, int R, class Ahead>
__attribute__((always_inline)) inline void dot_block(const DotRows& a, index_t i, index_t apart, Ahead& ahead) {
  constexpr int count = kPartials / L::width;
  typename L::vector acc[R][count];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 64
    for (int v = 0; v < count; ++v) acc[r][v] = a.first ? L::zero() : L::load(partials_of(a, i + r * apart) + v * L::width);
  }
  InputRows<L, T, R> rows(a, i, apart);
  for (index_t k = 0; k < a.k;) {
    const index_t end = rows.enter_group(k);
    for (; k < end; k += kPartials) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) ahead.template step<static_cast<int>(sizeof(T))>(r);
#pragma GCC unroll 64
      for (int v = 0; v < count; ++v) {
        const typename L::vector x = L::load(a.x + k + v * L::width);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) acc[r][v] = L::fma(x, rows.at(r, k + v * L::width), acc[r][v]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    if (!a.last) {
#pragma GCC unroll 64
      for (int v = 0; v < count; ++v) L::store_aligned(partials_of(a, i + r * apart) + v * L::width, acc[r][v]);
    }
    if (a.last || a.running) a.sums[i + r * apart] = fold_vectors<L>(acc[r]);
  }
}

/// One token, rows that nobody asks for (reads_unasked): two at a time, half of the list apart, so that the processor sees two streams.
template <class L, class T>
inline void dot_rows_unasked(const DotRows& a) {
  NothingAhead nothing;
  const index_t half = a.list.row_count / 2;
  for (index_t i = 0; i < half; ++i) dot_block<L, T, 2>(a, i, half, nothing);
  if (2 * half < a.list.row_count) dot_block<L, T, 1>(a, 2 * half, 1, nothing);
}

/// One token, whole rows in one piece from memory: a loop of its own, because in a cursor that can go anywhere half of PieceAhead's gain is lost.
template <class L, class T>
inline void dot_rows_in_one_piece(const DotRows& a) {
  constexpr int count = kPartials / L::width, lines = static_cast<int>(sizeof(T));  // of a step
  const PieceAhead ahead(a);
  const char* at = row_address(a.list, 0);
  for (index_t i = 0; i < a.list.row_count; ++i) {
    typename L::vector acc[count];
#pragma GCC unroll 64
    for (int v = 0; v < count; ++v) acc[v] = L::zero();
    const float* x = a.x;
    for (const char* const row_end = at + a.list.bytes; at < row_end;) {
      const auto [end, to] = ahead.stretch(at, row_end);
      for (; at < end; at += lines * 64, x += kPartials) {
        ask_for<1, lines>(at + to);
#pragma GCC unroll 64
        for (int v = 0; v < count; ++v) acc[v] = L::fma(L::load(x + v * L::width), L::load(reinterpret_cast<const T*>(at) + v * L::width), acc[v]);
      }
    }
    typename L::vector of_row[count];  // a copy: else the sums stay in memory
#pragma GCC unroll 64
    for (int v = 0; v < count; ++v) of_row[v] = acc[v];
    a.sums[i] = fold_vectors<L>(of_row);
  }
}

template <class L, class T>
void dot_rows(const DotRows& a) {
  if constexpr (tokens_in_registers<L>() > 1) {
    if (in_row_order(a.batch, a.x_stride, tokens_in_registers<L>())) {
      return a.batch == 4 ? dot_rows_in_order<L, T, 4>(a) : a.batch == 3 ? dot_rows_in_order<L, T, 3>(a) : dot_rows_in_order<L, T, 2>(a);
    }
  }
  if (a.batch > 1) {
    dot_rows_of_batch<L, T>(a);
    return;
  }
  if constexpr (kScaled<T> && L::multiplies_bytes) {
    if (dot_bytes_rows<L>(a)) return;
  }
  if constexpr (kFewInstructions<L, T>) {
    if (reads_unasked(a)) return dot_rows_unasked<L, T>(a);
  } else if constexpr (!kScaled<T>) {
    if (in_one_piece_from_memory(a)) return dot_rows_in_one_piece<L, T>(a);
  }
  ReadAhead<1> ahead(a.list, a.next, a.asked_bytes, ahead_bytes(1, sizeof(T), a.x_stride, 1));
  for (index_t i = 0; i < a.list.row_count; ++i) {
    ahead.template over<1>(a.list.bytes, [&](auto& steps) { dot_block<L, T, 1>(a, i, 1, steps); });
  }
}

/// z = Σ x·w and s = Σ |x|·|w| together: P = (s + z)/2 and N = z − P are the two monotone streams of the sign split.
template <class L, class T>
void dot_streams(const DotRows& a) {
  constexpr int lanes = L::stream_lanes, count = lanes / L::width;
  using V = typename L::vector;
  for (index_t i = 0; i < a.list.row_count; ++i) {
    for (index_t b = 0; b < a.batch; ++b) {
      const float* x = a.x + b * a.x_stride;
      V z_all[kPartials / L::width], s_all[kPartials / L::width];
      for (int from = 0; from < kPartials / L::width; from += count) {
        V z[count], s[count];
#pragma GCC unroll 64
        for (int v = 0; v < count; ++v) z[v] = s[v] = L::zero();
        InputRows<L, T, 1> row(a, i);
        for (index_t k = 0; k < a.k;) {
          const index_t end = row.enter_group(k);
          for (; k < end; k += kPartials) {
#pragma GCC unroll 64
            for (int v = 0; v < count; ++v) {
              const index_t at = k + (from + v) * L::width;
              const V xv = L::load(x + at), wv = row.at(0, at);
              z[v] = L::fma(xv, wv, z[v]);
              s[v] = L::fma(L::abs(xv), L::abs(wv), s[v]);
            }
          }
        }
#pragma GCC unroll 64
        for (int v = 0; v < count; ++v) {
          z_all[from + v] = z[v];
          s_all[from + v] = s[v];
        }
      }
      a.sums[i * a.batch + b] = fold_vectors<L>(z_all);
      a.absolute_sums[i * a.batch + b] = fold_vectors<L>(s_all);
    }
  }
}

}  // namespace
}  // namespace signsplit::cpu
