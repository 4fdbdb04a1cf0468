// w8a8 with AVX2: bytes widened to 16 bits, pairs of products added by vpmaddwd. (vpmaddubsw would take bytes as they are,
// but it saturates.)
#include <immintrin.h>

#include "integer_tiles.hpp"

namespace signsplit::cpu {
namespace {

inline __m256i widen16(const Int8* p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }

struct IntegersAvx2 {
  using sums = __m256i;
  struct weights {
    __m256i part[4];
  };
  using vector = __m256i;
  static constexpr int width = 8, batch_tokens = 4;

  static sums zero() { return _mm256_setzero_si256(); }
  static weights load_weights(const Int8* w) { return {{widen16(w), widen16(w + 16), widen16(w + 32), widen16(w + 48)}}; }
  static sums add_products(sums sum, const weights& w, const Int8* x) {
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) sum = _mm256_add_epi32(sum, _mm256_madd_epi16(w.part[n], widen16(x + 16 * n)));
    return sum;
  }
  static std::int32_t total(sums sum, std::int32_t) {
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
  }
  static vector widen_weights(const Int8* w) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(w)));
  }
  static vector load(const std::int32_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
  static void store(std::int32_t* p, vector v) { _mm256_store_si256(reinterpret_cast<__m256i*>(p), v); }
  /// The upper 16 bits of each coefficient are 0, so that vpmaddwd is a 32-bit product.
  static vector add_product(vector sum, vector w, std::int16_t c) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(w, _mm256_set1_epi32(static_cast<std::uint16_t>(c))));
  }
};

}  // namespace

extern const IntegerKernels integers_avx2;
constinit const IntegerKernels integers_avx2 = make_integer_kernels<IntegersAvx2>();

}  // namespace signsplit::cpu
