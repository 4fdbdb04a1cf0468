// Product 2: rows of W2 added into y, j ascending, and the tree over the parts.
#pragma once

#include "read_ahead.hpp"
#include "token_blocks.hpp"
#include "weight_lanes.hpp"

namespace signsplit::cpu {
namespace {

/// One token, R rows at a time: y is loaded and stored once for R additions. The rows share their scales.
template <class L, class T, int R>
inline void add_block(const AddRows& a, index_t i, ReadAhead<1>& ahead) {
  using V = typename L::vector;
  constexpr int count = kPartials / L::width;
  const T* w[R];
  V c[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    w[r] = row_of<T>(a.list, i + r);
    c[r] = L::broadcast(a.coefficients[i + r]);
  }
  for (index_t k = 0; k < a.columns; k += kPartials) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) ahead.template step<static_cast<int>(sizeof(T))>();
    const ColumnScales<L, T, count> scales(a, i, k);
#pragma GCC unroll 8
    for (int v = 0; v < count; ++v) {
      const index_t d = k + v * L::width;
      V y = L::load_aligned(a.y + d);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) y = L::fma(c[r], scales.apply(v, L::load(w[r] + d)), y);
      L::store_aligned(a.y + d, y);
    }
  }
}

template <class T>
inline bool share_scales(const AddRows& a, index_t first, index_t last) {
  return !kScaled<T> || a.group == 0 || row_number(a.list, first) / a.group == row_number(a.list, last) / a.group;
}

/// As many rows at once, up to four, as lie within the distance of the cursor.
template <class L, class T>
inline void add_rows_of_token(const AddRows& a) {
  ReadAhead<1> ahead(a.list, a.next, a.asked_bytes, ahead_bytes(a.list.bytes, 1));
  const index_t count = a.list.row_count, within = ahead_bytes(a.list.bytes, 1) / a.list.bytes;
  for (index_t i = 0; i < count;) {
    if (within >= 4 && i + 4 <= count && share_scales<T>(a, i, i + 3)) {
      add_block<L, T, 4>(a, i, ahead);
      i += 4;
    } else if (within >= 2 && i + 2 <= count && share_scales<T>(a, i, i + 1)) {
      add_block<L, T, 2>(a, i, ahead);
      i += 2;
    } else {
      add_block<L, T, 1>(a, i, ahead);
      ++i;
    }
  }
}

/// Vectors of y that B tokens keep in registers while rows are added.
template <class L, int B>
constexpr int strip_vectors() {
  constexpr int all = kPartials / L::width, fit = L::strip_registers / B;
  return fit > all ? all : fit;
}

/// Rows [begin, end) of the list × tokens [b, b + B), strip by strip of columns: the strip of y stays in registers, and a
/// weight that is loaded and converted serves B tokens. The rows are in the second-level cache by now.
template <class L, class T, int B>
inline void add_strips(const AddRows& a, index_t begin, index_t end, index_t b, ReadAhead<2>& ahead, index_t passes) {
  using Vector = typename L::vector;
  constexpr int V = strip_vectors<L, B>();
  for (index_t d = 0; d < a.columns; d += V * L::width) {
    Vector y[B][V];
#pragma GCC unroll 8
    for (int t = 0; t < B; ++t) {
#pragma GCC unroll 64
      for (int v = 0; v < V; ++v) y[t][v] = L::load_aligned(a.y + (b + t) * a.columns + d + v * L::width);
    }
    ColumnScales<L, T, V> scales(a, begin, d);
    for (index_t i = begin; i < end; ++i) {
      ahead.step_shared(V * L::width * static_cast<index_t>(sizeof(T)), passes);
      const T* w = row_of<T>(a.list, i) + d;
      const float* c = a.coefficients + i * a.batch + b;
      scales.enter_row(a, i, d);
      Vector wv[V];
#pragma GCC unroll 64
      for (int v = 0; v < V; ++v) wv[v] = scales.apply(v, L::load(w + v * L::width));
#pragma GCC unroll 8
      for (int t = 0; t < B; ++t) {
        const Vector cv = L::broadcast_once(c[t]);
#pragma GCC unroll 64
        for (int v = 0; v < V; ++v) y[t][v] = L::fma(cv, wv[v], y[t][v]);
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < B; ++t) {
#pragma GCC unroll 64
      for (int v = 0; v < V; ++v) L::store_aligned(a.y + (b + t) * a.columns + d + v * L::width, y[t][v]);
    }
  }
}

/// As many rows at a time as lie within the distance of the cursor.
template <class L, class T>
inline void add_rows_of_batch(const AddRows& a) {
  const index_t distance = ahead_bytes(a.list.bytes, a.batch);
  ReadAhead<2> ahead(a.list, a.next, a.asked_bytes, distance);
  index_t passes = 0;  // that go over a row: together they move the cursor by that row
  for_token_blocks<L>(a.batch, [&](auto, index_t) { ++passes; });
  const index_t rows = distance > a.list.bytes ? distance / a.list.bytes : 1;
  for (index_t i = 0; i < a.list.row_count; i += rows) {
    const index_t end = i + rows < a.list.row_count ? i + rows : a.list.row_count;
    for_token_blocks<L>(a.batch, [&](auto size, index_t b) {
      add_strips<L, T, decltype(size)::value>(a, i, end, b, ahead, passes);
    });
  }
}

template <class L, class T>
void add_rows(const AddRows& a) {
  a.batch == 1 ? add_rows_of_token<L, T>(a) : add_rows_of_batch<L, T>(a);
}

template <class L>
void reduce_parts(const ReduceParts& a) {
  for (index_t b = 0; b < a.batch; ++b) {
    float* base = a.partial_y + b * a.columns;
    const index_t part_stride = a.batch * a.columns;
    for (index_t stride = 1; stride < a.parts; stride *= 2) {
      for (index_t p = 0; p + stride < a.parts; p += 2 * stride) {
        float* into = base + p * part_stride;
        const float* from = base + (p + stride) * part_stride;
        for (index_t d = a.begin; d < a.end; d += L::width) {
          L::store_aligned(into + d, L::add(L::load_aligned(into + d), L::load_aligned(from + d)));
        }
      }
    }
    for (index_t d = a.begin; d < a.end; d += L::width) {
      L::store_aligned(base + d, L::add(L::load_aligned(base + d), L::zero()));
    }
  }
}

}  // namespace
}  // namespace signsplit::cpu
