// w8a8 with AVX-512 but without VNNI: as with AVX2, twice as wide.
#include "integers_avx512.hpp"

namespace signsplit::cpu {
namespace {

inline __m512i widen16(const Int8* p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }

struct IntegersAvx512 : ColumnsAvx512 {
  struct weights {
    __m512i part[2];
  };
  static weights load_weights(const Int8* w) { return {{widen16(w), widen16(w + 32)}}; }
  static sums add_products(sums sum, const weights& w, const Int8* x) {
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(w.part[0], widen16(x)));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(w.part[1], widen16(x + 32)));
  }
  static std::int32_t total(sums sum, std::int32_t) { return lanes_total(sum); }
};

}  // namespace

extern const IntegerKernels integers_avx512;
constinit const IntegerKernels integers_avx512 = make_integer_kernels<IntegersAvx512>();

}  // namespace signsplit::cpu
