// What the two AVX-512 forms of the certificate share: 16 rows are one register.
#pragma once

#include <immintrin.h>

#include "certify_vector.hpp"

namespace signsplit::cpu {
namespace {

struct PanelAvx512 {
  using floats = __m512;
  using integers = __m512i;

  static floats broadcast(float v) { return _mm512_set1_ps(v); }
  static floats load(const void* p) { return _mm512_load_ps(p); }
  static void store(float* p, floats v) { _mm512_store_ps(p, v); }
  static integers load_integers(const void* p) { return _mm512_load_si512(p); }
  static __m512i widen(const unsigned char* p) { return _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(p))); }
  static floats load_bytes(const unsigned char* p) { return _mm512_cvtepi32_ps(widen(p)); }
  static floats scales(integers bases, const unsigned char* codes) {
    return _mm512_castsi512_ps(_mm512_add_epi32(bases, _mm512_slli_epi32(widen(codes), kScaleShift)));
  }
  static floats fma(floats a, floats b, floats c) { return _mm512_fmadd_ps(a, b, c); }
  static floats multiply(floats a, floats b) { return _mm512_mul_ps(a, b); }
  static floats add(floats a, floats b) { return _mm512_add_ps(a, b); }
  static std::uint16_t less(floats a, floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }

  /// 32 bits from memory in every lane.
  static __m512i broadcast_bits(const void* p) {
    int bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    return _mm512_set1_epi32(bits);
  }
};

}  // namespace
}  // namespace signsplit::cpu
