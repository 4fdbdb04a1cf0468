// Both products of several tokens in the best order that we know, on a stream from memory: what they must load and add, and nothing
// else. Beside `peak/read_for_tokens`, which has no x and hardly a y, this is the limit of calls of 4 and 8 tokens: no lists of
// rows, no scales, no K tiles, no activation, no parts. Of the fold of the partial sums only the additions of whole vectors.
//
//   signsplit_bench --benchmark_filter=peak/token_blocks/.*threads:2 --benchmark_enable_random_interleaving=true --benchmark_repetitions=9
#include <benchmark/benchmark.h>

#include <string>

#include "signsplit/aligned_buffer.hpp"
#include "signsplit/portability.hpp"

#if defined(__x86_64__)
#include "widen_bf16.hpp"

namespace signsplit {
namespace {

constexpr index_t kMostElems = 4096, kMostTokens = 8, kMostRows = 24;

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

/// Group after group of a thread's own stream: from memory; or the same group, from the second-level cache.
template <int kLevel, bool kTwice>
void take_stream(benchmark::State& state, const Shape& shape, bool from_memory, void (*group)(const Memory&, const Shape&, Requests<kLevel, kTwice>&)) {
  const index_t group_bytes = shape.rows * shape.elems * 2, all = (index_t{256} << 20) / state.threads() / group_bytes * group_bytes;
  const index_t own = from_memory ? all : group_bytes;
  AlignedBuffer weights(static_cast<std::size_t>(own + shape.ahead));
  AlignedBuffer x(static_cast<std::size_t>(kMostTokens * (kMostElems + 128)) * sizeof(float));
  AlignedBuffer sums(static_cast<std::size_t>(kMostRows * kMostTokens * 64) * sizeof(float));
  for (index_t i = 0; i < own + shape.ahead; i += 64) weights.data()[i] = static_cast<std::byte>(i >> 6);
  Memory memory{weights.data(), reinterpret_cast<float*>(x.data()), reinterpret_cast<float*>(sums.data())};
  for (auto _ : state) {
    Requests<kLevel, kTwice> requests{weights.data() + shape.ahead};
    for (index_t at = 0; at < own; at += group_bytes) {
      memory.weights = weights.data() + at;
      group(memory, shape, requests);
    }
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * own);
}

template <int kLevel, bool kTwice>
void add(const char* name, const Shape& shape, bool from_memory, void (*group)(const Memory&, const Shape&, Requests<kLevel, kTwice>&)) {
  const std::string full = "peak/token_blocks/" + std::string(name) + "/elems:" + std::to_string(shape.elems) + (from_memory ? "/memory" : "/cache");
  benchmark::RegisterBenchmark(full.c_str(), [=](benchmark::State& state) { take_stream(state, shape, from_memory, group); })
      ->ThreadRange(1, 2)
      ->UseRealTime();
}

const bool registered = [] {
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw")) return true;
  constexpr index_t kKiB = 1024;
  // 4 tokens whose x or y the first-level cache holds: row after row.
  add<1, false>("dot/batch:4", {2048, 1, 2048, 10 * kKiB}, true, dot_group<1, 4, 4>);
  add<2, false>("add/batch:4", {2048, 2, 2048, 16 * kKiB}, true, add_group<2, 4>);
  // Groups of rows that the second-level cache holds, each asked for while the one before is computed.
  add<2, true>("dot/batch:4", {4096, 24, 2048, 24 * 8 * kKiB}, true, dot_group<1, 4, 2>);
  add<2, true>("add/batch:4", {4096, 24, 1024, 24 * 8 * kKiB}, true, add_group<6, 4>);
  for (const index_t elems : {2048, 4096}) {
    for (const bool from_memory : {true, false}) {
      add<2, true>("dot/batch:8", {elems, 24, 2048, 24 * elems * 2}, from_memory, dot_group<3, 8, 1>);
      add<2, true>("add/batch:8", {elems, 24, 512, 24 * elems * 2}, from_memory, add_group<3, 8>);
    }
  }
  return true;
}();

}  // namespace
}  // namespace signsplit
#endif
