// What the two AVX-512 variants of w8a8 share: sums of columns, 16 lanes.
#pragma once

#include <immintrin.h>

#include "integer_tiles.hpp"

namespace signsplit::cpu {
namespace {

struct ColumnsAvx512 {
  using sums = __m512i;
  using vector = __m512i;
  static constexpr int width = 16, batch_tokens = 4;

  static sums zero() { return _mm512_setzero_si512(); }
  static std::int32_t lanes_total(sums sum) {
    const __m256i eight = _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti32x8_epi32(sum, 1));
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
  }
  static vector widen_weights(const Int8* w) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
  }
  static vector load(const std::int32_t* p) { return _mm512_load_si512(p); }
  static void store(std::int32_t* p, vector v) { _mm512_store_si512(p, v); }
  /// The upper 16 bits of each coefficient are 0, so that vpmaddwd is a 32-bit product.
  static vector add_product(vector sum, vector w, std::int16_t c) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(w, _mm512_set1_epi32(static_cast<std::uint16_t>(c))));
  }
};

}  // namespace
}  // namespace signsplit::cpu
