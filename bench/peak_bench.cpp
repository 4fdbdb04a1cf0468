// What this machine can do at best, to hold the kernels against: fused multiply-adds of 16 (8) f32 lanes from registers, plain
// loads in the kernels' access pattern (one stream per thread, asked for ahead), such a stream with the arithmetic of several tokens,
// and the arithmetic of int8 weights that lie in the first-level cache. Nothing of the library runs here.
#include <benchmark/benchmark.h>

#include <string>

#include "signsplit/aligned_buffer.hpp"
#include "signsplit/portability.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#include "widen_bf16.hpp"

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

/// A stream taken for bf16 weights: widened, and one FMA for each vector and token, from registers. What product 1 of several tokens
/// costs at least, with memory's time hidden as well as one stream allows. Tokens differ, or the compiler would keep one sum for all.
template <int kTokens>
__attribute__((noinline, target("avx512f,avx512bw"))) void multiply_stream(const std::byte* data, index_t bytes, index_t ahead) {
  __m512 sum[kTokens][2], x[kTokens];
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
    sum[t][0] = sum[t][1] = _mm512_setzero_ps();
    x[t] = _mm512_set1_ps(0.5f * static_cast<float>(t + 1));
  }
  for (index_t i = 0; i < bytes; i += 64) {
    __builtin_prefetch(data + i + ahead);
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const __m512 w = widen_bf16(data + i + 32 * v);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) sum[t][v] = _mm512_fmadd_ps(x[t], w, sum[t][v]);
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) asm volatile("" : : "v"(sum[t][0]), "v"(sum[t][1]));
}

/// The same of product 2: kRows lines of the stream go into a line of y of each token, loaded and stored once for them. All of y takes
/// 16 KiB, so that it stays in the first-level cache.
template <int kTokens, int kRows>
__attribute__((noinline, target("avx512f,avx512bw"))) void add_stream(const std::byte* data, index_t bytes, index_t ahead, float* y) {
  constexpr index_t columns = 4096 / kTokens;
  __m512 h[kRows][kTokens];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      h[r][t] = _mm512_set1_ps(0.5f * static_cast<float>(r * kTokens + t + 1));
      asm("" : "+v"(h[r][t]));  // or it is read from memory at every use
    }
  }
  index_t d = 0;
  for (index_t i = 0; i + 64 * kRows <= bytes; i += 64 * kRows, d = d + 32 < columns ? d + 32 : 0) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) __builtin_prefetch(data + i + ahead + 64 * r);
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      __m512 w[kRows];
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) w[r] = widen_bf16(data + i + 64 * r + 32 * v);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        float* const at = y + t * columns + d + 16 * v;
        __m512 sum = _mm512_load_ps(at);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) sum = _mm512_fmadd_ps(h[r][t], w[r], sum);
        _mm512_store_ps(at, sum);
      }
    }
  }
}

/// kRows rows at a time into y; 0: product 1.
template <int kTokens, int kRows>
void read_for_tokens(benchmark::State& state, index_t bytes) {
  constexpr index_t ahead = 6 * 1024;
  const index_t own = bytes / state.threads();
  AlignedBuffer buffer(static_cast<std::size_t>(own + ahead)), y(4096 * sizeof(float));
  for (index_t i = 0; i < own + ahead; i += 64) buffer.data()[i] = static_cast<std::byte>(i >> 6);
  for (auto _ : state) {
    if constexpr (kRows == 0) {
      multiply_stream<kTokens>(buffer.data(), own, ahead);
    } else {
      add_stream<kTokens, kRows>(buffer.data(), own, ahead, reinterpret_cast<float*>(y.data()));
    }
  }
  state.SetBytesProcessed(state.iterations() * own);
}

/// int8 weights: widen, convert, multiply by the scale, FMA.
__attribute__((noinline, target("avx512f"))) void multiply_int8_avx512(const std::byte* data, index_t bytes, index_t) {
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

/// Multiply every second byte by the scale's integer, shift the products up or mask the others, convert, FMA: fewer operations than with the scale
/// as a float, and fewer for the two units that multiply than with weights widened to 16 bits. Asked for `ahead` bytes before.
__attribute__((noinline, target("avx2,fma"))) void multiply_int8_avx2(const std::byte* data, index_t bytes, index_t ahead) {
  __m256 sum[8], x = _mm256_set1_ps(0.5f);
  const __m256i scale_of_even = _mm256_set1_epi16(200), scale_of_odd = _mm256_set1_epi16(static_cast<short>(200 << 8)),
                upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
#pragma GCC unroll 8
  for (int c = 0; c < 8; ++c) sum[c] = _mm256_setzero_ps();
  for (index_t i = 0; i < bytes; i += 64) {
    __builtin_prefetch(data + i + ahead);
#pragma GCC unroll 8
    for (int c = 0; c < 8; c += 4) {
      const __m256i q = _mm256_load_si256(reinterpret_cast<const __m256i*>(data + i + 8 * c));
      const __m256i even = _mm256_maddubs_epi16(scale_of_even, q), odd = _mm256_maddubs_epi16(scale_of_odd, q);
      sum[c] = _mm256_fmadd_ps(x, _mm256_cvtepi32_ps(_mm256_slli_epi32(even, 16)), sum[c]);
      sum[c + 1] = _mm256_fmadd_ps(x, _mm256_cvtepi32_ps(_mm256_slli_epi32(odd, 16)), sum[c + 1]);
      sum[c + 2] = _mm256_fmadd_ps(x, _mm256_cvtepi32_ps(_mm256_and_si256(even, upper)), sum[c + 2]);
      sum[c + 3] = _mm256_fmadd_ps(x, _mm256_cvtepi32_ps(_mm256_and_si256(odd, upper)), sum[c + 3]);
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < 8; ++c) asm volatile("" : : "x"(sum[c]));
}

using MultiplyInt8 = void (*)(const std::byte*, index_t bytes, index_t ahead);

void int8_arithmetic(benchmark::State& state, MultiplyInt8 multiply) {
  constexpr index_t bytes = 16 * 1024;
  AlignedBuffer buffer(bytes);
  for (index_t i = 0; i < bytes; ++i) buffer.data()[i] = static_cast<std::byte>(i);
  for (auto _ : state) multiply(buffer.data(), bytes, 0);
  state.SetBytesProcessed(state.iterations() * bytes);
}

/// The same from memory, each thread weights of its own, as the best distance that we know has it.
void int8_from_memory(benchmark::State& state, MultiplyInt8 multiply) {
  constexpr index_t ahead = 8 * 1024, all = index_t{256} << 20;
  const index_t own = all / state.threads();
  AlignedBuffer buffer(static_cast<std::size_t>(own + ahead));
  for (index_t i = 0; i < own + ahead; i += 64) buffer.data()[i] = static_cast<std::byte>(i >> 6);
  for (auto _ : state) multiply(buffer.data(), own, ahead);
  state.SetBytesProcessed(state.iterations() * own);
}

const bool registered = [] {
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    benchmark::RegisterBenchmark("peak/fma/avx2", fma_avx2)->ThreadRange(1, 2)->UseRealTime();
    benchmark::RegisterBenchmark("peak/int8/avx2", int8_arithmetic, multiply_int8_avx2);
    benchmark::RegisterBenchmark("peak/int8/avx2/MiB:256", int8_from_memory, multiply_int8_avx2)->ThreadRange(1, 2)->UseRealTime();
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
  const auto tokens = [&](const char* name, void (*loop)(benchmark::State&, index_t)) {
    benchmark::RegisterBenchmark(name, loop, bytes)->ThreadRange(1, 2)->UseRealTime();
  };
  tokens("peak/read_for_tokens/dot/batch:4", read_for_tokens<4, 0>);
  tokens("peak/read_for_tokens/dot/batch:8", read_for_tokens<8, 0>);
  tokens("peak/read_for_tokens/add/batch:4", read_for_tokens<4, 2>);
  tokens("peak/read_for_tokens/add/batch:8", read_for_tokens<8, 3>);
  return true;
}();

}  // namespace
}  // namespace signsplit
#endif
