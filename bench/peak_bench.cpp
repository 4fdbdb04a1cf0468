// What this machine can do at best, to hold the kernels against: fused multiply-adds of 16 (8) f32 lanes from registers, plain
// loads in the kernels' access pattern (one stream per thread, asked for ahead), such a stream with the arithmetic of several tokens,
// and the arithmetic of int8 weights that lie in the first-level cache. Nothing of the library runs here.
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

// These loops are functions of their own: inside a loop over `state` GCC keeps the sums in memory.

/// A stream taken for bf16 weights: widened, and one FMA for each vector and token, from registers. What several tokens cost at least,
/// with memory's time hidden as well as one stream allows.
template <int kTokens>
__attribute__((noinline, target("avx512f,avx512bw"))) void multiply_stream(const std::byte* data, index_t bytes, index_t ahead) {
  __m512 sum[kTokens][2], x = _mm512_set1_ps(0.5f);
  const __m512i upper_halves = _mm512_set_epi32(0xf000f, 0xe000e, 0xd000d, 0xc000c, 0xb000b, 0xa000a, 0x90009, 0x80008, 0x70007, 0x60006,
                                                0x50005, 0x40004, 0x30003, 0x20002, 0x10001, 0);
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) sum[t][0] = sum[t][1] = _mm512_setzero_ps();
  for (index_t i = 0; i < bytes; i += 64) {
    __builtin_prefetch(data + i + ahead);
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const __m256i half = _mm256_load_si256(reinterpret_cast<const __m256i*>(data + i + 32 * v));
      const __m512 w = _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, upper_halves, _mm512_castsi256_si512(half)));
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) sum[t][v] = _mm512_fmadd_ps(x, w, sum[t][v]);
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) asm volatile("" : : "v"(sum[t][0]), "v"(sum[t][1]));
}

template <int kTokens>
void read_for_tokens(benchmark::State& state, index_t bytes) {
  constexpr index_t ahead = 6 * 1024;
  const index_t own = bytes / state.threads();
  AlignedBuffer buffer(static_cast<std::size_t>(own + ahead));
  for (index_t i = 0; i < own + ahead; i += 64) buffer.data()[i] = static_cast<std::byte>(i >> 6);
  for (auto _ : state) multiply_stream<kTokens>(buffer.data(), own, ahead);
  state.SetBytesProcessed(state.iterations() * own);
}

/// int8 weights: widen, convert, multiply by the scale, FMA.
__attribute__((noinline, target("avx512f"))) void multiply_int8_avx512(const std::byte* data, index_t bytes) {
  __m512 sum[8], x = _mm512_set1_ps(0.5f), scale = _mm512_set1_ps(0.25f);
#pragma GCC unroll 8
  for (int c = 0; c < 8; ++c) sum[c] = _mm512_setzero_ps();
  for (index_t i = 0; i < bytes; i += 128) {
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) {
      const __m128i q = _mm_load_si128(reinterpret_cast<const __m128i*>(data + i + 16 * c));
      sum[c] = _mm512_fmadd_ps(x, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q)), scale), sum[c]);
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < 8; ++c) asm volatile("" : : "v"(sum[c]));
}

__attribute__((noinline, target("avx2,fma"))) void multiply_int8_avx2(const std::byte* data, index_t bytes) {
  __m256 sum[8], x = _mm256_set1_ps(0.5f), scale = _mm256_set1_ps(0.25f);
#pragma GCC unroll 8
  for (int c = 0; c < 8; ++c) sum[c] = _mm256_setzero_ps();
  for (index_t i = 0; i < bytes; i += 64) {
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) {
      const __m128i q = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(data + i + 8 * c));
      sum[c] = _mm256_fmadd_ps(x, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)), scale), sum[c]);
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < 8; ++c) asm volatile("" : : "x"(sum[c]));
}

void int8_arithmetic(benchmark::State& state, void (*multiply)(const std::byte*, index_t)) {
  constexpr index_t bytes = 16 * 1024;
  AlignedBuffer buffer(bytes);
  for (index_t i = 0; i < bytes; ++i) buffer.data()[i] = static_cast<std::byte>(i);
  for (auto _ : state) multiply(buffer.data(), bytes);
  state.SetBytesProcessed(state.iterations() * bytes);
}

const bool registered = [] {
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    benchmark::RegisterBenchmark("peak/fma/avx2", fma_avx2)->ThreadRange(1, 2)->UseRealTime();
    benchmark::RegisterBenchmark("peak/int8/avx2", int8_arithmetic, multiply_int8_avx2);
  }
  if (!__builtin_cpu_supports("avx512f")) return true;
  benchmark::RegisterBenchmark("peak/fma/avx512", fma_avx512)->ThreadRange(1, 2)->UseRealTime();
  benchmark::RegisterBenchmark("peak/int8/avx512", int8_arithmetic, multiply_int8_avx512);
  for (const index_t bytes : {index_t{9} << 20, index_t{256} << 20}) {
    const std::string name = "peak/read/MiB:" + std::to_string(bytes >> 20);
    benchmark::RegisterBenchmark(name.c_str(), read_stream, bytes)->ThreadRange(1, 2)->UseRealTime();
  }
  if (!__builtin_cpu_supports("avx512bw")) return true;
  const index_t bytes = index_t{256} << 20;
  benchmark::RegisterBenchmark("peak/read_for_tokens:4/MiB:256", read_for_tokens<4>, bytes)->ThreadRange(1, 2)->UseRealTime();
  benchmark::RegisterBenchmark("peak/read_for_tokens:8/MiB:256", read_for_tokens<8>, bytes)->ThreadRange(1, 2)->UseRealTime();
  return true;
}();

}  // namespace
}  // namespace signsplit
#endif
