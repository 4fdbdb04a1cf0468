// What this machine can do at best, to hold the kernels against: fused multiply-adds of 16 (8) f32 lanes from registers, and plain
// loads in the kernels' access pattern (one stream per thread, asked for ahead). Nothing of the library runs here.
#include <benchmark/benchmark.h>

#include <string>

#include "signsplit/aligned_buffer.hpp"
#include "signsplit/portability.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

namespace signsplit {
namespace {

constexpr int kChains = 24;  // more than latency times throughput
constexpr index_t kRounds = 4096;

// One loop per instruction set, on purpose: a function attribute cannot be a template's.

__attribute__((target("avx512f"))) void fma_avx512(benchmark::State& state) {
  __m512 sum[kChains], x = _mm512_set1_ps(0.5f);
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c) sum[c] = _mm512_set1_ps(static_cast<float>(c));
  for (auto _ : state) {
    for (index_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 24
      for (int c = 0; c < kChains; ++c) sum[c] = _mm512_fmadd_ps(sum[c], x, x);
    }
  }
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c) asm volatile("" : : "v"(sum[c]));
  state.counters["fma_vectors_per_s"] =
      benchmark::Counter(static_cast<double>(state.iterations() * kRounds * kChains), benchmark::Counter::kIsRate);
}

__attribute__((target("avx2,fma"))) void fma_avx2(benchmark::State& state) {
  constexpr int chains = 12;  // of 16 registers
  __m256 sum[chains], x = _mm256_set1_ps(0.5f);
#pragma GCC unroll 12
  for (int c = 0; c < chains; ++c) sum[c] = _mm256_set1_ps(static_cast<float>(c));
  for (auto _ : state) {
    for (index_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
      for (int c = 0; c < chains; ++c) sum[c] = _mm256_fmadd_ps(sum[c], x, x);
    }
  }
#pragma GCC unroll 12
  for (int c = 0; c < chains; ++c) asm volatile("" : : "x"(sum[c]));
  state.counters["fma_vectors_per_s"] =
      benchmark::Counter(static_cast<double>(state.iterations() * kRounds * chains), benchmark::Counter::kIsRate);
}

/// Each thread reads memory of its own, `bytes` in all, as far ahead as the kernels do.
__attribute__((target("avx512f"))) void read_stream(benchmark::State& state, index_t bytes) {
  constexpr index_t ahead = 6 * 1024;
  const index_t own = bytes / state.threads();
  AlignedBuffer buffer(static_cast<std::size_t>(own + ahead));
  const std::byte* const data = buffer.data();
  for (index_t i = 0; i < own + ahead; i += 64) buffer.data()[i] = static_cast<std::byte>(i >> 6);
  for (auto _ : state) {
    __m512i a = _mm512_setzero_si512(), b = a;
    for (index_t i = 0; i < own; i += 128) {
      __builtin_prefetch(data + i + ahead);
      __builtin_prefetch(data + i + ahead + 64);
      a = _mm512_xor_si512(a, _mm512_load_si512(data + i));
      b = _mm512_xor_si512(b, _mm512_load_si512(data + i + 64));
    }
    asm volatile("" : : "v"(a), "v"(b));
  }
  state.SetBytesProcessed(state.iterations() * own);
}

const bool registered = [] {
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    benchmark::RegisterBenchmark("peak/fma/avx2", fma_avx2)->ThreadRange(1, 2)->UseRealTime();
  }
  if (!__builtin_cpu_supports("avx512f")) return true;
  benchmark::RegisterBenchmark("peak/fma/avx512", fma_avx512)->ThreadRange(1, 2)->UseRealTime();
  for (const index_t bytes : {index_t{9} << 20, index_t{256} << 20}) {
    const std::string name = "peak/read/MiB:" + std::to_string(bytes >> 20);
    benchmark::RegisterBenchmark(name.c_str(), read_stream, bytes)->ThreadRange(1, 2)->UseRealTime();
  }
  return true;
}();

}  // namespace
}  // namespace signsplit
#endif
