// Both products of several tokens with all they must load, store and add, in the best order that we know, and nothing else: loops for the probes
// that hold the kernels against them.
#pragma once

#include "signsplit/portability.hpp"
#include "widen_bf16.hpp"

namespace signsplit {
namespace {

/// Lines of memory in the order of their addresses. kTwice: again 4 KiB later.
template <int kLevel, bool kTwice>
struct Requests {
  const std::byte* at;
  __attribute__((always_inline)) void line() {
    __builtin_prefetch(at, 0, 4 - kLevel);
    if constexpr (kTwice) __builtin_prefetch(at - 4096, 0, 4 - kLevel);
    at += 64;
  }
  /// Those of step `n` of `count`, which together ask for `lines`.
  __attribute__((always_inline)) void step(int n, int count, int lines) {
    if (n * lines / count != (n + 1) * lines / count) line();
  }
};

struct Shape {
  index_t elems, rows, slice, ahead;  ///< of a row; of a group of rows; elements of a row that are taken together; bytes
};

struct Memory {
  const std::byte* weights;
  float* x;     ///< [passes, elems / 64, vectors of a pass, tokens, 16]; or y [tokens, elems + 128]
  float* sums;  ///< [rows of a group, tokens, 64]; or h [rows of a group, tokens]
};

/// Product 1: kRows rows and kTokens tokens at a time, kVectors of the four vectors of partial sums in a pass over a slice of K.
template <int kRows, int kTokens, int kVectors, int kLevel, bool kTwice>
__attribute__((noinline, target("avx512f,avx512bw"))) void dot_group(const Memory& m, const Shape& shape, Requests<kLevel, kTwice>& requests) {
  constexpr int unroll = kRows * kVectors % 2 == 0 ? 1 : 2, lines = kRows * kVectors * unroll / 2, steps = unroll * kVectors * kTokens;
  const index_t row_bytes = shape.elems * 2;
  for (index_t begin = 0; begin < shape.elems; begin += shape.slice) {
    const bool last = begin + shape.slice >= shape.elems;
    for (index_t pass = 0; pass < 4 / kVectors; ++pass) {
      // Of a line's two vectors the second comes two passes later: next to each other the passes took 1.1 times as long (8 tokens).
      const index_t column = kVectors == 1 ? pass / 2 + pass % 2 * 2 : pass * kVectors;
      for (index_t row = 0; row < shape.rows; row += kRows) {
        const std::byte* w = m.weights + row * row_bytes + begin * 2 + column * 32;
        const float* x = m.x + (pass * shape.elems + begin) / 64 * kVectors * kTokens * 16;
        float* const sums = m.sums + row * kTokens * 64 + column * 16;
        __m512 sum[kRows][kTokens][kVectors];
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
          for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) sum[r][t][v] = begin == 0 ? _mm512_setzero_ps() : _mm512_load_ps(sums + (r * kTokens + t) * 64 + v * 16);
          }
        }
        for (index_t k = 0; k < shape.slice; k += unroll * 64) {
#pragma GCC unroll 2
          for (int u = 0; u < unroll; ++u, w += 128, x += kVectors * kTokens * 16) {
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
              __m512 weight[kRows];
#pragma GCC unroll 8
              for (int r = 0; r < kRows; ++r) weight[r] = widen_bf16(w + r * row_bytes + v * 32);
#pragma GCC unroll 8
              for (int t = 0; t < kTokens; ++t) {
                __m512 value = _mm512_load_ps(x + (v * kTokens + t) * 16);
                asm("" : "+v"(value));  // one load for all rows
                requests.step((u * kVectors + v) * kTokens + t, steps, lines);
#pragma GCC unroll 8
                for (int r = 0; r < kRows; ++r) sum[r][t][v] = _mm512_fmadd_ps(value, weight[r], sum[r][t][v]);
              }
            }
          }
        }
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
          for (int t = 0; t < kTokens; ++t) {
            float* const at = sums + (r * kTokens + t) * 64;
            if (last && kVectors == 4) {
              const __m512* const v = sum[r][t];
              _mm512_store_ps(at, _mm512_add_ps(_mm512_add_ps(v[0], v[2 % kVectors]), _mm512_add_ps(v[1 % kVectors], v[3 % kVectors])));
              continue;
            }
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
              const bool folds = last && column >= 2;
              if (folds) sum[r][t][v] = _mm512_add_ps(sum[r][t][v], _mm512_load_ps(at + v * 16 - 32));
              _mm512_store_ps(at + v * 16 - (folds ? 32 : 0), sum[r][t][v]);
            }
          }
        }
      }
    }
  }
}

/// Product 2: kRows rows at a time into a slice of y of all tokens.
template <int kRows, int kTokens, int kLevel, bool kTwice>
__attribute__((noinline, target("avx512f,avx512bw"))) void add_group(const Memory& m, const Shape& shape, Requests<kLevel, kTwice>& requests) {
  constexpr int half = kTokens > 4 ? kTokens / 2 : kTokens;
  const index_t row_bytes = shape.elems * 2, y_stride = shape.elems + 128;
  for (index_t begin = 0; begin < shape.elems; begin += shape.slice) {
    for (index_t row = 0; row < shape.rows; row += kRows) {
      __m512 h[kRows][kTokens];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
          h[r][t] = _mm512_set1_ps(m.sums[(row + r) * kTokens + t]);
          asm("" : "+v"(h[r][t]));
        }
      }
      const std::byte* w = m.weights + row * row_bytes + begin * 2;
      float *low = m.x + begin, *high = low + half * y_stride;
      for (index_t d = 0; d < shape.slice; d += 32) {
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v, w += 32, low += 16, high += 16) {
          asm("" : "+r"(low), "+r"(high));
          __m512 weight[kRows];
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) weight[r] = widen_bf16(w + r * row_bytes);
#pragma GCC unroll 8
          for (int t = 0; t < kTokens; ++t) {
            requests.step(v * kTokens + t, 2 * kTokens, kRows);
            float* const y = t < half ? low + t * y_stride : high + (t - half) * y_stride;
            __m512 sum = _mm512_load_ps(y);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) sum = _mm512_fmadd_ps(h[r][t], weight[r], sum);
            _mm512_store_ps(y, sum);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace signsplit
