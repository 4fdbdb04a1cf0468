// The tile kernels, once, for every instruction set: a Lanes type says what a vector is, T is the stored weight type
// (float, or std::uint16_t for bfloat16). docs/exactness.md states the orders of addition kept here.
//
// Everything has internal linkage: each instruction set instantiates its own.
#pragma once

#include "kernel_table.hpp"

namespace signsplit::cpu {
namespace {

constexpr int kPartials = 64;

template <class T>
inline const T* row_start(const void* matrix, index_t row_bytes, index_t row) {
  return reinterpret_cast<const T*>(static_cast<const char*>(matrix) + row * row_bytes);
}

/// The rows of the block after this one, or the last row again. They are prefetched while this block is computed, because
/// the hardware's prefetchers start anew at every row and page: 5 to 10 % less time on layers of 2 to 270 MB, from the
/// last-level cache as from memory (2-core Xeon virtual machine).
constexpr int kIntoSecondLevel = 2;  // locality argument of __builtin_prefetch
template <class T, class Rows, int R>
inline void next_rows(const Rows& a, index_t i, const T* (&next)[R]) {
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    next[r] = row_start<T>(a.matrix, a.row_bytes, a.rows[i + r < a.row_count ? i + r : a.row_count - 1]);
  }
}

/// Folds `count` vectors, upper half onto lower, then the lanes: the lower levels of the 64-partial tree.
template <class L, int Count>
inline float fold_vectors(typename L::vector (&v)[Count]) {
#pragma GCC unroll 8
  for (int half = Count / 2; half >= 1; half /= 2) {
#pragma GCC unroll 64
    for (int i = 0; i < half; ++i) v[i] = L::add(v[i], v[i + half]);
  }
  return L::fold(v[0]);
}

/// R rows × B tokens with all their partials in registers. `i`, `b` locate the block inside the tile.
template <class L, class T, int R, int B, bool Prefetch>
inline void dot_block(const DotRows& a, index_t i, index_t b) {
  constexpr int count = kPartials / L::width;
  using V = typename L::vector;
  const T* w[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) w[r] = row_start<T>(a.matrix, a.row_bytes, a.rows[i + r]);
  const float* x = a.x + b * a.x_stride;
  const T* next[R];
  next_rows<T>(a, i + R, next);

  V acc[R][B][count];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int t = 0; t < B; ++t) {
      const float* saved = a.first ? nullptr : a.partials + ((i + r) * a.batch + b + t) * kPartials;
#pragma GCC unroll 64
      for (int v = 0; v < count; ++v) acc[r][t][v] = a.first ? L::zero() : L::load(saved + v * L::width);
    }
  }
  for (index_t k = 0; k < a.k; k += kPartials) {
    if constexpr (Prefetch && L::width > 1) {
      constexpr int line = 64 / static_cast<int>(sizeof(T));
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < kPartials; v += line) __builtin_prefetch(next[r] + k + v, 0, kIntoSecondLevel);
      }
    }
#pragma GCC unroll 64
    for (int v = 0; v < count; ++v) {
      V xv[B];
#pragma GCC unroll 4
      for (int t = 0; t < B; ++t) xv[t] = L::load(x + t * a.x_stride + k + v * L::width);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const V wv = L::load(w[r] + k + v * L::width);
#pragma GCC unroll 4
        for (int t = 0; t < B; ++t) acc[r][t][v] = L::fma(xv[t], wv, acc[r][t][v]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int t = 0; t < B; ++t) {
      const index_t at = (i + r) * a.batch + b + t;
      if (a.last) {
        a.sums[at] = fold_vectors<L>(acc[r][t]);
      } else {
#pragma GCC unroll 64
        for (int v = 0; v < count; ++v) L::store_aligned(a.partials + at * kPartials + v * L::width, acc[r][t][v]);
      }
    }
  }
}

/// One block of rows against all tokens, B at a time: the weights come from memory once, then from the first-level cache.
template <class L, class T, int R, int B>
inline void dot_block_tokens(const DotRows& a, index_t i) {
  index_t b = 0;
  if (a.batch >= B) {
    dot_block<L, T, R, B, true>(a, i, 0);
    for (b = B; b + B <= a.batch; b += B) dot_block<L, T, R, B, false>(a, i, b);
  }
  for (; b < a.batch; ++b) dot_block<L, T, R, 1, false>(a, i, b);
}

template <class L, class T>
void dot_rows(const DotRows& a) {
  constexpr int R = L::rows_per_block, B = L::tokens_per_block;
  index_t i = 0;
  if (B > 1 && a.batch > 1) {  // tokens share each weight that is loaded and converted
    for (; i + R / B <= a.row_count; i += R / B) dot_block_tokens<L, T, R / B, B>(a, i);
    for (; i < a.row_count; ++i) dot_block_tokens<L, T, 1, B>(a, i);
    return;
  }
  for (; i + R <= a.row_count; i += R) dot_block_tokens<L, T, R, 1>(a, i);
  for (; i < a.row_count; ++i) dot_block_tokens<L, T, 1, 1>(a, i);
}

/// z = Σ x·w and s = Σ |x|·|w| together: P = (s + z)/2 and N = z − P are the two monotone streams of the sign split.
template <class L, class T>
void dot_streams(const DotRows& a) {
  constexpr int lanes = L::stream_lanes, count = lanes / L::width, passes = kPartials / lanes;
  using V = typename L::vector;
  for (index_t i = 0; i < a.row_count; ++i) {
    const T* w = row_start<T>(a.matrix, a.row_bytes, a.rows[i]);
    for (index_t b = 0; b < a.batch; ++b) {
      const float* x = a.x + b * a.x_stride;
      V z_all[kPartials / L::width], s_all[kPartials / L::width];
      for (int pass = 0; pass < passes; ++pass) {
        V z[count], s[count];
#pragma GCC unroll 64
        for (int v = 0; v < count; ++v) z[v] = s[v] = L::zero();
        for (index_t k = pass * lanes; k < a.k; k += kPartials) {
#pragma GCC unroll 64
          for (int v = 0; v < count; ++v) {
            const V xv = L::load(x + k + v * L::width), wv = L::load(w + k + v * L::width);
            z[v] = L::fma(xv, wv, z[v]);
            s[v] = L::fma(L::abs(xv), L::abs(wv), s[v]);
          }
        }
#pragma GCC unroll 64
        for (int v = 0; v < count; ++v) {
          z_all[pass * count + v] = z[v];
          s_all[pass * count + v] = s[v];
        }
      }
      a.sums[i * a.batch + b] = fold_vectors<L>(z_all);
      a.absolute_sums[i * a.batch + b] = fold_vectors<L>(s_all);
    }
  }
}

/// R rows at a time: y is loaded and stored once for R additions, and R row streams are open at once.
template <class L, class T, int R>
inline void add_block(const AddRows& a, index_t i) {
  using V = typename L::vector;
  const T* w[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) w[r] = row_start<T>(a.matrix, a.row_bytes, a.rows[i + r]);
  const float* c = a.coefficients + i * a.batch;
  if (a.batch == 1) {
    V cv[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) cv[r] = L::broadcast(c[r]);
    const T* next[R];
    next_rows<T>(a, i + R, next);
#pragma GCC unroll 2
    for (index_t d = 0; d < a.columns; d += L::width) {
      if constexpr (L::width > 1) {
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) __builtin_prefetch(next[r] + d, 0, kIntoSecondLevel);
      }
      V y = L::load_aligned(a.y + d);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) y = L::fma(cv[r], L::load(w[r] + d), y);
      L::store_aligned(a.y + d, y);
    }
    return;
  }
  for (index_t d = 0; d < a.columns; d += L::width) {
    V wv[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) wv[r] = L::load(w[r] + d);
    for (index_t b = 0; b < a.batch; ++b) {
      float* at = a.y + b * a.columns + d;
      V y = L::load_aligned(at);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) y = L::fma(L::broadcast(c[r * a.batch + b]), wv[r], y);
      L::store_aligned(at, y);
    }
  }
}

template <class L, class T>
void add_rows(const AddRows& a) {
  index_t i = 0;
  for (; i + 4 <= a.row_count; i += 4) add_block<L, T, 4>(a, i);
  for (; i < a.row_count; ++i) add_block<L, T, 1>(a, i);
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

template <class L>
constexpr KernelTable make_table() {
  return {L::name,
          dot_rows<L, float>,
          dot_rows<L, std::uint16_t>,
          dot_streams<L, float>,
          dot_streams<L, std::uint16_t>,
          add_rows<L, float>,
          add_rows<L, std::uint16_t>,
          reduce_parts<L>};
}

}  // namespace
}  // namespace signsplit::cpu
