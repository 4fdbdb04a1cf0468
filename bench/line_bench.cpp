// What a line of weights may cost: one stream a thread from memory, or from the last-level cache, in the order in which the kernels of one
// token read it, with more and more of what they do to a line. Between `loads` and the product lies what no kernel can win by reading
// better. Rows of 2048 weights, x and y of 8 KiB; no lists of rows, no fold of the sums, no calls. Nothing of the library runs here.
// asked: each line 7 KiB ahead, and 12 KiB ahead the first of a page, as the kernels of 16-bit weights do; sparsely: one line of four, 4 KiB ahead,
// nearly as oneDNN does (1 KiB), whose bf16 instruction takes both weights of a lane in one.
//
//   signsplit_bench --benchmark_filter=peak/line/.*MiB:256 --benchmark_enable_random_interleaving=true --benchmark_repetitions=15
//
// MiB:18 is the size of a 768x3072 layer in f32: warm, its time is at least half of the bytes at the rate of `x` and half at that of `y`.
#include <benchmark/benchmark.h>

#include <string>

#include "signsplit/aligned_buffer.hpp"
#include "signsplit/portability.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#include "widen_bf16.hpp"

namespace signsplit {
namespace {

enum class Work {
  loads,   ///< whole lines, once
  fma,     ///< as vectors of f32, multiplied by a constant and summed in registers
  x,       ///< product 1: an x from memory for each vector
  y_read,  ///< product 2 that writes nothing
  y,       ///< product 2
};

template <bool kBf16>
__attribute__((always_inline, target("avx512f,avx512bw"))) inline __m512 weights(const std::byte* at) {
  if constexpr (kBf16) {
    return widen_bf16(at);
  } else {
    return _mm512_load_ps(at);
  }
}

enum class Asked { nothing, sparsely, all };

constexpr index_t kElems = 2048, kGroupRows = 256, kAhead = 7 * 1024, kSparseAhead = 4 * 1024, kEarly = 12 * 1024, kPage = 4096;

/// kRows rows at a time of a group of kGroupRows: neighbours, or for product 1 as far apart as they can be.
template <Work kWork, bool kBf16, int kRows, Asked kAsked>
__attribute__((noinline, target("avx512f,avx512bw"))) void take_group(const std::byte* group, const float* x, float* y) {
  constexpr index_t row_bytes = kElems * (kBf16 ? 2 : 4), vector_bytes = kBf16 ? 32 : 64;
  constexpr int vectors = !kBf16 && kRows == 4 ? 2 : 4;  // of a row and step: as in the kernels
  constexpr bool far = kWork != Work::y && kWork != Work::y_read;
  constexpr index_t apart = far ? kGroupRows / kRows * row_bytes : row_bytes;
  __m512 sum[kRows][vectors], h[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sum[r][v] = _mm512_setzero_ps();
  }
  for (index_t n = 0; n < kGroupRows / kRows; ++n) {
    const std::byte* const row = group + (far ? n : n * kRows) * row_bytes;
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      h[r] = _mm512_set1_ps(x[n + r]);
      asm("" : "+v"(h[r]));
    }
    if constexpr (kAsked == Asked::all) {
      for (index_t page = 0; page < row_bytes; page += kPage) __builtin_prefetch(row + page + kEarly, 0, 2);
    }
    for (index_t i = 0, d = 0; i < row_bytes; i += vectors * vector_bytes, d += vectors * 16) {
      if constexpr (kAsked == Asked::all) {
#pragma GCC unroll 4
        for (index_t line = 0; line < vectors * vector_bytes; line += 64) __builtin_prefetch(row + i + line + kAhead);
      } else if constexpr (kAsked == Asked::sparsely) {
        if (i % 256 == 0) __builtin_prefetch(row + i + kSparseAhead);
      }
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        __m512 added = kWork == Work::y || kWork == Work::y_read ? _mm512_load_ps(y + d + 16 * v) : _mm512_setzero_ps();
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          const std::byte* const at = row + r * apart + i + v * vector_bytes;
          if constexpr (kWork == Work::loads) {
            if (v * vector_bytes % 64 != 0) continue;
            const __m512i line = _mm512_load_si512(at);
            sum[r][v] = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(sum[r][v]), line));
          } else if constexpr (kWork == Work::fma) {
            sum[r][v] = _mm512_fmadd_ps(h[r], weights<kBf16>(at), sum[r][v]);
          } else if constexpr (kWork == Work::x) {
            sum[r][v] = _mm512_fmadd_ps(_mm512_load_ps(x + d + 16 * v), weights<kBf16>(at), sum[r][v]);
          } else {
            added = _mm512_fmadd_ps(h[r], weights<kBf16>(at), added);
          }
        }
        if constexpr (kWork == Work::y) _mm512_store_ps(y + d + 16 * v, added);
        if constexpr (kWork == Work::y_read) sum[0][v] = _mm512_add_ps(sum[0][v], added);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) asm volatile("" : : "v"(sum[r][v]));
  }
}

constexpr int kThreads = 2;

/// Of a thread, the same for all cases, because pages differ in how fast they are read.
struct Memory {
  static constexpr index_t kBytes = index_t{128} << 20;
  AlignedBuffer data{kBytes + kEarly}, x{kElems * sizeof(float)}, y{kElems * sizeof(float)};
};

/// Touched page by page in turns, as two threads that pack a layer do.
struct Memories {
  Memory of_threads[kThreads];
  Memories() {
    for (index_t i = 0; i < Memory::kBytes + kEarly; i += 64) {
      for (Memory& memory : of_threads) {
        if (memory.data.data() != nullptr) memory.data.data()[i] = static_cast<std::byte>(i >> 6);
      }
    }
  }
};

Memory& memory_of(int thread) {
  static Memories memories;
  return memories.of_threads[thread];
}

template <Work kWork, bool kBf16, int kRows, Asked kAsked>
void take_lines(benchmark::State& state, index_t bytes) {
  constexpr index_t group_bytes = kGroupRows * kElems * (kBf16 ? 2 : 4);
  const index_t own = bytes / kThreads / group_bytes * group_bytes;
  auto& [data, x, y] = memory_of(state.thread_index());
  if (data.data() == nullptr) return state.SkipWithError("no memory");
  for (auto _ : state) {
    for (index_t at = 0; at < own; at += group_bytes) {
      take_group<kWork, kBf16, kRows, kAsked>(data.data() + at, reinterpret_cast<const float*>(x.data()), reinterpret_cast<float*>(y.data()));
    }
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * own);
}

template <Work kWork, bool kBf16, int kRows, Asked kAsked>
void add(const char* name) {
  for (const index_t mebibytes : {18, 256}) {
    const std::string full = "peak/line/" + std::string(kBf16 ? "bf16/" : "f32/") + name + "/rows:" + std::to_string(kRows) +
                             (kAsked == Asked::all ? "/asked/MiB:" : kAsked == Asked::sparsely ? "/sparsely/MiB:" : "/unasked/MiB:") + std::to_string(mebibytes);
    benchmark::RegisterBenchmark(full.c_str(), take_lines<kWork, kBf16, kRows, kAsked>, mebibytes << 20)->Threads(kThreads)->UseRealTime();
  }
}

template <bool kBf16>
void add_all() {
  using enum Asked;
  add<Work::loads, kBf16, 1, all>("loads");
  add<Work::loads, kBf16, 1, sparsely>("loads");
  add<Work::loads, kBf16, 1, nothing>("loads");
  add<Work::loads, kBf16, 4, nothing>("loads");
  add<Work::fma, kBf16, 1, all>("fma");
  add<Work::fma, kBf16, 1, sparsely>("fma");
  add<Work::x, kBf16, 1, all>("x");
  add<Work::x, kBf16, 1, sparsely>("x");
  add<Work::x, kBf16, 1, nothing>("x");
  add<Work::x, kBf16, 2, nothing>("x");
  add<Work::y_read, kBf16, 1, all>("y_read");
  add<Work::y, kBf16, 1, all>("y");
  add<Work::y, kBf16, 1, nothing>("y");
  add<Work::y, kBf16, 4, all>("y");
  add<Work::y, kBf16, 4, nothing>("y");
}

const bool registered = [] {
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw")) return true;
  add_all<true>();
  add_all<false>();
  return true;
}();

}  // namespace
}  // namespace signsplit
#endif
