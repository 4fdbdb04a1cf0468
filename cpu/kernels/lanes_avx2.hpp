// AVX2 + FMA3, 8 lanes. The architecture must be fma3<avx2>: xsimd's plain avx2 multiplies and adds with two roundings.
#pragma once

#include <immintrin.h>

#include <xsimd/xsimd.hpp>

#include "stored_types.hpp"

#if !defined(__AVX2__) || !defined(__FMA__)
#error "compile this file with the flags of its instruction set"
#endif

namespace signsplit::cpu {

struct LanesAvx2 {
  using arch = xsimd::fma3<xsimd::avx2>;
  using vector = xsimd::batch<float, arch>;
  static constexpr const char* name = "avx2";
  static constexpr int width = 8;
  // Several tokens: blocks of 3 rows × 4 tokens (12 of 16 registers are accumulators).
  static constexpr int batch_tokens = 4, accumulators = 12;
  static constexpr int dot_rows(int) { return 3; }
  static constexpr int add_rows(int tokens) { return tokens > 2 ? 3 : tokens > 1 ? 6 : 8; }
  static constexpr bool asks_next = false;
  static constexpr int stream_lanes = 32;                         // 4 + 4 accumulators

  static vector zero() { return _mm256_setzero_ps(); }
  static vector broadcast(float value) { return vector(value); }
  static vector load(const float* p) { return vector::load_unaligned(p); }
  static vector load_aligned(const float* p) { return vector::load_aligned(p); }
  // For loops whose sums take nearly all registers: these two stay where they are written. In its own order the compiler loads early what
  // it multiplies late, and keeps some sums in memory for want of registers (8 tokens: 1.25 times the time).
  static vector load_in_place(const float* p) {
    __m256 value;
    asm volatile("vmovaps %1, %0" : "=x"(value) : "m"(*reinterpret_cast<const __m256*>(p)));
    return value;
  }
  static void fma_in_place(vector a, vector b, vector& sum) {
    const __m256 x = a, y = b;
    __m256 z = sum;
    asm volatile("vfmadd231ps %1, %2, %0" : "+x"(z) : "x"(x), "x"(y));
    sum = z;
  }
  static vector load(const Bf16* p) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
  static vector load(const F16* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static vector load(const Int8* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  // Products of bytes, for int8_bytes.hpp: M of even and odd elements, each beside a 0.
  static constexpr bool multiplies_bytes = true;
  struct ByteMultipliers {
    __m256i even, odd;
  };
  static ByteMultipliers byte_multipliers(std::uint32_t m) {
    return {_mm256_set1_epi16(static_cast<short>(m)), _mm256_set1_epi16(static_cast<short>(m << 8))};
  }
  static ByteMultipliers byte_multipliers(const std::uint16_t* even, const std::uint16_t* odd) {
    return {_mm256_load_si256(reinterpret_cast<const __m256i*>(even)), _mm256_load_si256(reinterpret_cast<const __m256i*>(odd))};
  }
  /// Weights of 32 elements: in vector r those that are r modulo 4.
  static void multiply_bytes(const Int8* p, const ByteMultipliers& m, vector (&out)[4]) {
    const __m256i q = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    const __m256i even = _mm256_maddubs_epi16(m.even, q), odd = _mm256_maddubs_epi16(m.odd, q);
    out[0] = _mm256_cvtepi32_ps(_mm256_slli_epi32(even, 16));
    out[2] = _mm256_cvtepi32_ps(_mm256_and_si256(even, upper));
    out[1] = _mm256_cvtepi32_ps(_mm256_slli_epi32(odd, 16));
    out[3] = _mm256_cvtepi32_ps(_mm256_and_si256(odd, upper));
  }
  /// The sum of vectors that multiply_bytes has ordered: folds 16, 8, 4, 2, 1.
  __attribute__((always_inline)) static float fold_spread(const vector (&v)[4]) {
    __m256d two[2];
#pragma GCC unroll 2
    for (int n = 0; n < 2; ++n) {
      const __m256 a = v[2 * n], b = v[2 * n + 1];
      two[n] = _mm256_castps_pd(_mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31)));
    }
    __m256 all = _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(two[0], two[1])), _mm256_castpd_ps(_mm256_unpackhi_pd(two[0], two[1])));
    all = _mm256_add_ps(all, _mm256_permute_ps(all, 0xb1));
    all = _mm256_add_ps(all, _mm256_permute_ps(all, 0x4e));
    return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
  }
  static void store_aligned(float* p, vector v) { v.store_aligned(p); }
  static vector fma(vector a, vector b, vector c) { return xsimd::fma(a, b, c); }
  static vector add(vector a, vector b) { return a + b; }
  static vector mul(vector a, vector b) { return a * b; }
  static vector abs(vector a) { return xsimd::abs(a); }
  /// Folds the upper half onto the lower: 4, 2, 1.
  static float fold(vector v) {
    const __m256 all = v;
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    half = _mm_add_ss(half, _mm_movehdup_ps(half));
    return _mm_cvtss_f32(half);
  }
  /// fold() of 8 vectors at once: lane n of the result is that of v[n].
  static vector fold_all(const vector (&v)[8]) {
    __m256 four[4], two[2];
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) {
      const __m256 a = v[n], b = v[n + 4];
      four[n] = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
    }
    for (int n = 0; n < 2; ++n) {
      const __m256d a = _mm256_castps_pd(four[n]), b = _mm256_castps_pd(four[n + 2]);
      two[n] = _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)), _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
    }
    const __m256 one = _mm256_add_ps(_mm256_shuffle_ps(two[0], two[1], 0x88), _mm256_shuffle_ps(two[0], two[1], 0xdd));
    return _mm256_permute_ps(one, 0xd8);
  }
};

}  // namespace signsplit::cpu
