#include "exact_sign.hpp"

#include <algorithm>
#include <array>

namespace signsplit::cpu {

ExactSum exact_pre_activation(const Weights& weights, Matrix matrix, index_t j, const float* x) {
  constexpr index_t kPiece = 64;
  std::array<float, kPiece> storage;
  ExactSum sum;
  for (index_t k = 0; k < weights.d_model(); k += kPiece) {
    const std::span<float> row(storage.data(), static_cast<std::size_t>(std::min(kPiece, weights.d_model() - k)));
    weights.read_row(matrix, j, k, row);
    for (std::size_t i = 0; i < row.size(); ++i) sum.add_product(x[k + static_cast<index_t>(i)], row[i]);
  }
  const std::span<const float> bias = matrix == Matrix::gate ? weights.gate_bias() : weights.up_bias();
  if (!bias.empty()) sum.add(static_cast<double>(bias[static_cast<std::size_t>(j)]));
  return sum;
}

}  // namespace signsplit::cpu
