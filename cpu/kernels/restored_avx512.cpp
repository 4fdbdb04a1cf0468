// Restored rows, AVX-512: 16 weights at a time.
#include "lanes_avx512.hpp"
#include "restored_rows.hpp"

namespace signsplit::cpu {
namespace {

struct RestoreAvx512 {
  using bits = __m512i;

  static bits widen_bytes(const void* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))); }
  static bits widen_halves(const void* p) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p))); }
  static bits plane(const signed char* q, __m512 scale) {
    return _mm512_castps_si512(_mm512_mul_ps(_mm512_cvtepi32_ps(widen_bytes(q)), scale));
  }
  template <class T>
  static bits masked(bits v) {
    if constexpr (sizeof(T) == 4) return v;
    return _mm512_and_si512(v, _mm512_set1_epi32(static_cast<int>(0xffffffffu << kShift<T>)));
  }
  template <class T>
  static bits differences(const unsigned char* row, index_t columns, index_t k) {
    if constexpr (sizeof(T) == 4) {
      return _mm512_add_epi32(widen_halves(row + 2 * k), _mm512_slli_epi32(widen_bytes(row + 2 * columns + k), 16));
    } else {
      return _mm512_slli_epi32(widen_bytes(row + k), kShift<T>);
    }
  }
  static bits weights(const float* p) { return _mm512_loadu_si512(p); }
  static bits weights(const Bf16* p) { return _mm512_slli_epi32(widen_halves(p), 16); }
  static bits weights(const F16* p) {
    return _mm512_castps_si512(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
  }
  static bits add(bits a, bits b) { return _mm512_add_epi32(a, b); }
  static void store(float* p, bits v) { _mm512_store_si512(p, v); }
};

}  // namespace

extern const RestoredKernels restored_avx512;
constinit const RestoredKernels restored_avx512 = make_restored_kernels<LanesAvx512, RestoreAvx512>();

}  // namespace signsplit::cpu
