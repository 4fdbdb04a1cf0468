// The tile kernels, once, for every instruction set: a Lanes type says what a vector is, T is the stored weight type
// (float, or std::uint16_t for bfloat16). docs/exactness.md states the orders of addition kept here.
//
// Everything has internal linkage: each instruction set instantiates its own.
#pragma once

#include "read_ahead.hpp"

namespace signsplit::cpu {
namespace {

constexpr int kPartials = 64;

template <class T>
inline const T* row_of(const RowList& list, index_t i) {
  return reinterpret_cast<const T*>(row_address(list, i));
}

/// Up to 2 KiB, several rows lie within the distance, and add_rows takes four at once.
constexpr index_t kShortRowBytes = 2048;
inline index_t ahead_bytes(const RowList& list) { return list.bytes <= kShortRowBytes ? kMaxAheadBytes : kMaxAheadBytes / 2; }

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
template <class L, class T, int R, int B>
inline void dot_block(const DotRows& a, index_t i, index_t b, ReadAhead* ahead) {
  constexpr int count = kPartials / L::width;
  using V = typename L::vector;
  const T* w[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) w[r] = row_of<T>(a.list, i + r);
  const float* x = a.x + b * a.x_stride;

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
    if (ahead != nullptr) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) ahead->step<static_cast<int>(sizeof(T))>();
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
inline void dot_block_tokens(const DotRows& a, index_t i, ReadAhead& ahead) {
  index_t b = 0;
  for (; b + B <= a.batch; b += B) dot_block<L, T, R, B>(a, i, b, b == 0 ? &ahead : nullptr);
  for (; b < a.batch; ++b) dot_block<L, T, R, 1>(a, i, b, b == 0 ? &ahead : nullptr);
}

template <class L, class T>
void dot_rows(const DotRows& a) {
  ReadAhead ahead(a.list, a.next, a.asked_bytes, ahead_bytes(a.list));
  index_t i = 0;
  if (a.batch == 1) {
    for (; i < a.list.row_count; ++i) dot_block<L, T, 1, 1>(a, i, 0, &ahead);
    return;
  }
  constexpr int R = L::rows_per_block, B = L::tokens_per_block;  // tokens share each weight that is loaded and converted
  for (; i + R <= a.list.row_count; i += R) dot_block_tokens<L, T, R, B>(a, i, ahead);
  for (; i < a.list.row_count; ++i) dot_block_tokens<L, T, 1, B>(a, i, ahead);
}

/// z = Σ x·w and s = Σ |x|·|w| together: P = (s + z)/2 and N = z − P are the two monotone streams of the sign split.
template <class L, class T>
void dot_streams(const DotRows& a) {
  constexpr int lanes = L::stream_lanes, count = lanes / L::width, passes = kPartials / lanes;
  using V = typename L::vector;
  for (index_t i = 0; i < a.list.row_count; ++i) {
    const T* w = row_of<T>(a.list, i);
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

/// R rows at a time: y is loaded and stored once for R additions.
template <class L, class T, int R>
inline void add_block(const AddRows& a, index_t i, ReadAhead& ahead) {
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
    for (int r = 0; r < R; ++r) ahead.step<static_cast<int>(sizeof(T))>();
#pragma GCC unroll 8
    for (int v = 0; v < count; ++v) {
      const index_t d = k + v * L::width;
      V y = L::load_aligned(a.y + d);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) y = L::fma(c[r], L::load(w[r] + d), y);
      L::store_aligned(a.y + d, y);
    }
  }
}

/// The same for several tokens, which share each weight that is loaded and converted.
template <class L, class T, int R>
inline void add_block_tokens(const AddRows& a, index_t i, ReadAhead& ahead) {
  using V = typename L::vector;
  constexpr int count = kPartials / L::width;
  const T* w[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) w[r] = row_of<T>(a.list, i + r);
  const float* c = a.coefficients + i * a.batch;
  for (index_t k = 0; k < a.columns; k += kPartials) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) ahead.step<static_cast<int>(sizeof(T))>();
    for (index_t d = k; d < k + count * L::width; d += L::width) {
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
}

template <class L, class T>
void add_rows(const AddRows& a) {
  ReadAhead ahead(a.list, a.next, a.asked_bytes, ahead_bytes(a.list));
  index_t i = 0;
  if (a.batch > 1) {
    for (; i + 4 <= a.list.row_count; i += 4) add_block_tokens<L, T, 4>(a, i, ahead);
    for (; i < a.list.row_count; ++i) add_block_tokens<L, T, 1>(a, i, ahead);
    return;
  }
  if (a.list.bytes <= kShortRowBytes) {
    for (; i + 4 <= a.list.row_count; i += 4) add_block<L, T, 4>(a, i, ahead);
  }
  for (; i < a.list.row_count; ++i) add_block<L, T, 1>(a, i, ahead);
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
