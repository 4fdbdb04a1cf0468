// The certificate for AVX2 + FMA3. No maddubs, whose 16-bit sums saturate: bytes are widened to 16 bits by a mask and a
// shift, and pmaddwd adds pairs of products in 32 bits, exactly.
#include <immintrin.h>

#include "certify_vector.hpp"
#include "core/quantize_group.hpp"

namespace signsplit::cpu {
namespace {

struct PanelAvx2 {
  struct floats {
    __m256 low, high;  ///< rows 0 to 7 and 8 to 15
  };
  struct integers {
    __m256i low, high;
  };

  static floats broadcast(float v) { return {_mm256_set1_ps(v), _mm256_set1_ps(v)}; }
  static floats load(const void* p) {
    const auto* f = static_cast<const float*>(p);
    return {_mm256_load_ps(f), _mm256_load_ps(f + 8)};
  }
  static void store(float* p, floats v) {
    _mm256_store_ps(p, v.low);
    _mm256_store_ps(p + 8, v.high);
  }
  static integers load_integers(const void* p) {
    const auto* i = static_cast<const __m256i*>(p);
    return {_mm256_load_si256(i), _mm256_load_si256(i + 1)};
  }
  static __m256i widen(const unsigned char* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
  static floats load_bytes(const unsigned char* p) { return {_mm256_cvtepi32_ps(widen(p)), _mm256_cvtepi32_ps(widen(p + 8))}; }
  static __m256 scales_of(__m256i bases, __m256i codes) {
    return _mm256_castsi256_ps(_mm256_add_epi32(bases, _mm256_slli_epi32(codes, kScaleShift)));
  }
  static floats scales(integers bases, const unsigned char* codes) {
    return {scales_of(bases.low, widen(codes)), scales_of(bases.high, widen(codes + 8))};
  }
  static floats fma(floats a, floats b, floats c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  static floats multiply(floats a, floats b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
  static floats add(floats a, floats b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
  static std::uint16_t less(floats a, floats b) {
    const int low = _mm256_movemask_ps(_mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ));
    const int high = _mm256_movemask_ps(_mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ));
    return static_cast<std::uint16_t>(low | high << 8);
  }

  static __m256i products(const unsigned char* plane, __m256i even, __m256i odd) {
    const __m256i bytes = _mm256_load_si256(reinterpret_cast<const __m256i*>(plane));
    const __m256i even_bytes = _mm256_and_si256(bytes, _mm256_set1_epi16(0x00ff));
    return _mm256_add_epi32(_mm256_madd_epi16(even_bytes, even), _mm256_madd_epi16(_mm256_srli_epi16(bytes, 8), odd));
  }
  template <bool Asks>
  static floats group_sums(const unsigned char* plane, const QuantizedQuad* quads, index_t count, const QuantizedGroup& group) {
    __m256i low = _mm256_set1_epi32(group.start), high = low;
    for (index_t from = 0; from < count; from += kQuadsAtOnce, plane += kQuadsAtOnce * 64, quads += kQuadsAtOnce) {
#pragma GCC unroll 16
      for (int q = 0; q < kQuadsAtOnce; ++q) {
        if (Asks) ask_ahead(plane + q * 64);
        int even, odd;
        __builtin_memcpy(&even, quads[q].even, sizeof even);
        __builtin_memcpy(&odd, quads[q].odd, sizeof odd);
        const __m256i e = _mm256_set1_epi32(even), o = _mm256_set1_epi32(odd);
        low = _mm256_add_epi32(low, products(plane + q * 64, e, o));
        high = _mm256_add_epi32(high, products(plane + q * 64 + 32, e, o));
      }
    }
    return {_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)};
  }
};

}  // namespace

PanelVerdict certify_avx2(const CertifyPanel& panel) { return certify_panel<PanelAvx2>(panel); }

GroupSums quantize_group_avx2(const float* x, index_t columns, QuantizedQuad* quads, QuantizedGroup& group) {
  return quantize_columns(x, columns, quads, group);
}

}  // namespace signsplit::cpu
