// Restored rows, AVX2: 8 weights at a time.
#include "lanes_avx2.hpp"
#include "restored_rows.hpp"

namespace signsplit::cpu {
namespace {

struct RestoreAvx2 {
  using bits = __m256i;

  static bits widen_bytes(const void* p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))); }
  static bits widen_halves(const void* p) { return _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))); }
  static bits plane(const signed char* q, __m256 scale) {
    return _mm256_castps_si256(_mm256_mul_ps(_mm256_cvtepi32_ps(widen_bytes(q)), scale));
  }
  template <class T>
  static bits masked(bits v) {
    if constexpr (sizeof(T) == 4) return v;
    return _mm256_and_si256(v, _mm256_set1_epi32(static_cast<int>(0xffffffffu << kShift<T>)));
  }
  template <class T>
  static bits differences(const unsigned char* row, index_t columns, index_t k) {
    if constexpr (sizeof(T) == 4) {
      return _mm256_add_epi32(widen_halves(row + 2 * k), _mm256_slli_epi32(widen_bytes(row + 2 * columns + k), 16));
    } else {
      return _mm256_slli_epi32(widen_bytes(row + k), kShift<T>);
    }
  }
  static bits weights(const float* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static bits weights(const Bf16* p) { return _mm256_slli_epi32(widen_halves(p), 16); }
  static bits weights(const F16* p) {
    return _mm256_castps_si256(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static bits add(bits a, bits b) { return _mm256_add_epi32(a, b); }
  static void store(float* p, bits v) { _mm256_store_si256(reinterpret_cast<__m256i*>(p), v); }
};

}  // namespace

extern const RestoredKernels restored_avx2;
constinit const RestoredKernels restored_avx2 = make_restored_kernels<LanesAvx2, RestoreAvx2>();

}  // namespace signsplit::cpu
