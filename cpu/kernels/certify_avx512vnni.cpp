// The certificate for AVX-512 with VNNI: four products of a byte of the plane, unsigned as it is stored, with a signed byte
// of x are added to a 32-bit sum by one instruction, for the upper and the lower half of x.
#include "certify_avx512.hpp"

namespace signsplit::cpu {
namespace {

struct PanelAvx512Vnni : PanelAvx512 {
  template <bool Asks>
  static floats group_sums(const unsigned char* plane, const QuantizedQuad* quads, index_t count, const QuantizedGroup& group) {
    // Two sums for each half, so that an addition need not wait for the one before.
    __m512i high0 = _mm512_set1_epi32(group.start_high), low0 = _mm512_set1_epi32(group.start_low);
    __m512i high1 = _mm512_setzero_si512(), low1 = _mm512_setzero_si512();
    for (index_t from = 0; from < count; from += kQuadsAtOnce, plane += kQuadsAtOnce * 64, quads += kQuadsAtOnce) {
#pragma GCC unroll 16
      for (int q = 0; q < kQuadsAtOnce; q += 2) {
        if (Asks) ask_ahead(plane + q * 64), ask_ahead(plane + q * 64 + 64);
        const __m512i first = _mm512_load_si512(plane + q * 64), second = _mm512_load_si512(plane + q * 64 + 64);
        high0 = _mm512_dpbusd_epi32(high0, first, broadcast_bits(quads[q].high));
        low0 = _mm512_dpbusd_epi32(low0, first, broadcast_bits(quads[q].low));
        high1 = _mm512_dpbusd_epi32(high1, second, broadcast_bits(quads[q + 1].high));
        low1 = _mm512_dpbusd_epi32(low1, second, broadcast_bits(quads[q + 1].low));
      }
    }
    const __m512i high = _mm512_slli_epi32(_mm512_add_epi32(high0, high1), 7);
    return _mm512_cvtepi32_ps(_mm512_add_epi32(high, _mm512_add_epi32(low0, low1)));
  }
};

}  // namespace

PanelVerdict certify_avx512vnni(const CertifyPanel& panel) { return certify_panel<PanelAvx512Vnni>(panel); }

}  // namespace signsplit::cpu
