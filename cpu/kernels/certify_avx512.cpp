// The certificate for AVX-512 without VNNI: as for AVX2, bytes are widened to 16 bits and pmaddwd adds pairs of products.
#include "certify_avx512.hpp"
#include "core/quantize_group.hpp"

namespace signsplit::cpu {
namespace {

struct PanelAvx512Words : PanelAvx512 {
  template <bool Asks>
  static floats group_sums(const unsigned char* plane, const QuantizedQuad* quads, index_t count, const QuantizedGroup& group) {
    __m512i even_sum = _mm512_set1_epi32(group.start), odd_sum = _mm512_setzero_si512();
    for (index_t from = 0; from < count; from += kQuadsAtOnce, plane += kQuadsAtOnce * 64, quads += kQuadsAtOnce) {
#pragma GCC unroll 16
      for (int q = 0; q < kQuadsAtOnce; ++q) {
        if (Asks) ask_ahead(plane + q * 64);
        const __m512i bytes = _mm512_load_si512(plane + q * 64);
        const __m512i even = _mm512_and_si512(bytes, _mm512_set1_epi16(0x00ff)), odd = _mm512_srli_epi16(bytes, 8);
        even_sum = _mm512_add_epi32(even_sum, _mm512_madd_epi16(even, broadcast_bits(quads[q].even)));
        odd_sum = _mm512_add_epi32(odd_sum, _mm512_madd_epi16(odd, broadcast_bits(quads[q].odd)));
      }
    }
    return _mm512_cvtepi32_ps(_mm512_add_epi32(even_sum, odd_sum));
  }
};

}  // namespace

PanelVerdict certify_avx512(const CertifyPanel& panel) { return certify_panel<PanelAvx512Words>(panel); }

GroupSums quantize_group_avx512(const float* x, index_t columns, QuantizedQuad* quads, QuantizedGroup& group) {
  return quantize_columns(x, columns, quads, group);
}

}  // namespace signsplit::cpu
