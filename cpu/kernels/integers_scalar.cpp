// w8a8 without a vector unit: the definition that the others are compared with.
#include "integer_tiles.hpp"

namespace signsplit::cpu {
namespace {

struct IntegersScalar {
  using sums = std::int32_t;
  using weights = const Int8*;
  using vector = std::int32_t;
  static constexpr int width = 1, batch_tokens = 4;

  static sums zero() { return 0; }
  static weights load_weights(const Int8* w) { return w; }
  static sums add_products(sums sum, weights w, const Int8* x) {
    for (int k = 0; k < 64; ++k) sum += w[k] * x[k];
    return sum;
  }
  static std::int32_t total(sums sum, std::int32_t) { return sum; }
  static vector widen_weights(const Int8* w) { return *w; }
  static vector load(const std::int32_t* p) { return *p; }
  static void store(std::int32_t* p, vector v) { *p = v; }
  static vector add_product(vector sum, vector w, std::int16_t c) { return sum + w * c; }
};

}  // namespace

extern const IntegerKernels integers_scalar;
constinit const IntegerKernels integers_scalar = make_integer_kernels<IntegersScalar>();

}  // namespace signsplit::cpu
