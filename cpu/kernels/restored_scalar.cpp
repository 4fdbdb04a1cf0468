// Restored rows without vectors: the reference for the others.
#include "lanes_scalar.hpp"
#include "restored_rows.hpp"

namespace signsplit::cpu {
namespace {

struct RestoreScalar {
  using bits = std::uint32_t;

  static bits bits_of(float v) {
    bits result;
    __builtin_memcpy(&result, &v, sizeof result);
    return result;
  }
  static bits plane(const signed char* q, float scale) { return bits_of(scale * static_cast<float>(*q)); }
  template <class T>
  static bits masked(bits v) {
    return v & 0xffffffffu << kShift<T>;
  }
  template <class T>
  static bits differences(const unsigned char* row, index_t columns, index_t k) {
    if constexpr (sizeof(T) == 4) {
      std::uint16_t low;
      __builtin_memcpy(&low, row + 2 * k, sizeof low);
      return low + (static_cast<bits>(static_cast<signed char>(row[2 * columns + k])) << 16);
    } else {
      return static_cast<bits>(static_cast<signed char>(row[k])) << kShift<T>;
    }
  }
  template <class T>
  static bits weights(const T* p) {
    return bits_of(LanesScalar::load(p));
  }
  static bits add(bits a, bits b) { return a + b; }
  static void store(float* p, bits v) { __builtin_memcpy(p, &v, sizeof v); }
};

}  // namespace

extern const RestoredKernels restored_scalar;
constinit const RestoredKernels restored_scalar = make_restored_kernels<LanesScalar, RestoreScalar>();

}  // namespace signsplit::cpu
