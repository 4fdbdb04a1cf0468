// AVX-512, 16 lanes. xsimd 8.1 has no fused multiply-add for this architecture (its generic one rounds twice), so the FMA
// is the intrinsic; tests/cpu/kernels_test.cpp holds every instruction set to one rounding.
#pragma once

#include <immintrin.h>

#include <xsimd/xsimd.hpp>

#include "stored_types.hpp"

#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__)
#error "compile this file with the flags of its instruction set"
#endif

namespace signsplit::cpu {

struct LanesAvx512 {
  using arch = xsimd::avx512bw;
  using vector = xsimd::batch<float, arch>;
  static constexpr const char* name = "avx512";
  static constexpr int width = 16;
  // Several tokens: blocks of 3 rows × 8 tokens (24 of 32 registers are accumulators). Of four tokens or less one or two rows: the fewer
  // rows are read at once, the more memory gives.
  static constexpr int batch_tokens = 8, accumulators = 24;
  static constexpr int dot_rows(int tokens) { return tokens > 4 ? 3 : tokens > 2 ? 1 : 2; }
  static constexpr int add_rows(int tokens) { return tokens > 4 ? 3 : 2; }
  static constexpr bool multiplies_bytes = false;  // no gain: int8 waits for memory
  static constexpr bool asks_next = true;
  static constexpr int stream_lanes = 64;                         // 4 + 4 accumulators

  static vector zero() { return _mm512_setzero_ps(); }
  static vector broadcast(float value) { return vector(value); }
  static vector load(const float* p) { return vector::load_unaligned(p); }
  static vector load_aligned(const float* p) { return vector::load_aligned(p); }
  // For loops whose sums take nearly all registers: these two stay where they are written. In its own order the compiler loads early what
  // it multiplies late, and keeps some sums in memory for want of registers (8 tokens: 1.25 times the time).
  static vector load_in_place(const float* p) {
    __m512 value;
    asm volatile("vmovaps %1, %0" : "=v"(value) : "m"(*reinterpret_cast<const __m512*>(p)));
    return value;
  }
  static void fma_in_place(vector a, vector b, vector& sum) {
    const __m512 x = a, y = b;
    __m512 z = sum;
    asm volatile("vfmadd231ps %1, %2, %0" : "+v"(z) : "v"(x), "v"(y));
    sum = z;
  }
  /// Every second 16 bits are a weight, the others 0: one operation that shuffles, where widening and shifting are two.
  static vector load(const Bf16* p) {
    const __m512i upper_halves = _mm512_set_epi32(0xf000f, 0xe000e, 0xd000d, 0xc000c, 0xb000b, 0xa000a, 0x90009, 0x80008, 0x70007, 0x60006,
                                                  0x50005, 0x40004, 0x30003, 0x20002, 0x10001, 0);
    const __m512i sixteen = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, upper_halves, sixteen));
  }
  static vector load(const F16* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static vector load(const Int8* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static void store_aligned(float* p, vector v) { v.store_aligned(p); }
  static vector fma(vector a, vector b, vector c) { return _mm512_fmadd_ps(a, b, c); }
  static vector add(vector a, vector b) { return a + b; }
  static vector mul(vector a, vector b) { return a * b; }
  static vector abs(vector a) { return _mm512_abs_ps(a); }
  /// Folds the upper half onto the lower: 8, 4, 2, 1.
  static float fold(vector v) {
    const __m512 all = v;
    const __m256 upper = _mm512_extractf32x8_ps(all, 1);
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(all), upper);
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    half = _mm_add_ss(half, _mm_movehdup_ps(half));
    return _mm_cvtss_f32(half);
  }
  /// fold() of 16 vectors at once: lane n of the result is that of v[n].
  static vector fold_all(const vector (&v)[16]) {
    __m512 eight[8], four[4], two[2];
#pragma GCC unroll 8
    for (int n = 0; n < 8; ++n) {
      const __m512 a = v[n], b = v[n + 8];
      eight[n] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    }
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) {
      const __m512 a = eight[n], b = eight[n + 4];
      four[n] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    }
    for (int n = 0; n < 2; ++n) {
      const __m512d a = _mm512_castps_pd(four[n]), b = _mm512_castps_pd(four[n + 2]);
      two[n] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    const __m512 one = _mm512_add_ps(_mm512_shuffle_ps(two[0], two[1], 0x88), _mm512_shuffle_ps(two[0], two[1], 0xdd));
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15), one);
  }
};

}  // namespace signsplit::cpu
