// w8a8 with AVX-512 VNNI: vpdpbusd adds four products of an unsigned and a signed byte to a 32-bit sum, without saturation.
// The weights become unsigned by adding 128; what that adds to the sum is 128·Σx, which total() takes off again. Both wrap
// around at 2^32, so that the difference is exact whenever the sum itself fits into 32 bits.
#include "integers_avx512.hpp"

namespace signsplit::cpu {
namespace {

struct IntegersAvx512Vnni : ColumnsAvx512 {
  using weights = __m512i;
  static weights load_weights(const Int8* w) { return _mm512_xor_si512(_mm512_loadu_si512(w), _mm512_set1_epi8(-128)); }
  static sums add_products(sums sum, weights w, const Int8* x) { return _mm512_dpbusd_epi32(sum, w, _mm512_loadu_si512(x)); }
  static std::int32_t total(sums sum, std::int32_t x_sum) {
    const auto shifted = static_cast<std::uint32_t>(lanes_total(sum)), offset = 128u * static_cast<std::uint32_t>(x_sum);
    return static_cast<std::int32_t>(shifted - offset);
  }
};

}  // namespace

extern const IntegerKernels integers_avx512vnni;
constinit const IntegerKernels integers_avx512vnni = make_integer_kernels<IntegersAvx512Vnni>();

}  // namespace signsplit::cpu
