#include "first_product.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace signsplit {

void read_deciding_row(const Weights& weights, index_t j, std::span<double> row) noexcept {
  for (std::size_t k = 0; k < row.size(); ++k) {
    const auto column = static_cast<index_t>(k);
    row[k] = static_cast<double>(weights.gated() ? weights.gate_at(j, column) : weights.up_at(j, column));
  }
}

double deciding_bias(const Weights& weights, index_t j) noexcept {
  const std::span<const float> bias = weights.gated() ? weights.gate_bias() : weights.up_bias();
  return bias.empty() ? 0.0 : static_cast<double>(bias[static_cast<std::size_t>(j)]);
}

Status check_first_product(const Weights& weights, std::span<const float> x, index_t tokens) {
  if (tokens < 0 || tokens > kMaxExtent || x.size() != static_cast<std::size_t>(tokens * weights.d_model())) {
    return invalid_argument("x must have tokens * d_model = " + std::to_string(tokens) + " * " +
                            std::to_string(weights.d_model()) + " elements (got " + std::to_string(x.size()) + ")");
  }
  if (!std::all_of(x.begin(), x.end(), [](float value) { return std::isfinite(value); })) {
    return invalid_argument("x holds an infinity or a NaN: its sums have no size");
  }
  for (index_t j = 0; j < weights.d_ff(); ++j) {
    if (weights.input_row_nonfinite(j)) {
      return invalid_argument("unit " + std::to_string(j) + " has a weight or bias that is not finite: its sums have no size");
    }
  }
  return {};
}

}  // namespace signsplit
