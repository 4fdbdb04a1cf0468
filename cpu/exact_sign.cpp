#include "exact_sign.hpp"

namespace signsplit::cpu {
namespace {

template <class T>
void add_dot(ExactSum& sum, const T* row, const float* x, index_t d) {
  for (index_t k = 0; k < d; ++k) sum.add_product(x[k], to_float(row[k]));
}

}  // namespace

ExactSum exact_pre_activation(const std::byte* row, DType dtype, const float* x, index_t d, float bias) {
  ExactSum sum;
  if (dtype == DType::f32) {
    add_dot(sum, reinterpret_cast<const float*>(row), x, d);
  } else {
    add_dot(sum, reinterpret_cast<const bf16*>(row), x, d);
  }
  sum.add(static_cast<double>(bias));
  return sum;
}

}  // namespace signsplit::cpu
