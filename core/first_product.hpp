// The first product, for the analyses of a layer: the rows that decide what is open, in double, and what they may hold.
#pragma once

#include <span>

#include "signsplit/status.hpp"
#include "signsplit/weights.hpp"

namespace signsplit {

/// The first D elements of the row whose product with x decides whether unit j is open: of up, or of the gate.
void read_deciding_row(const Weights& weights, index_t j, std::span<double> row) noexcept;

/// Its bias, 0 without one.
[[nodiscard]] double deciding_bias(const Weights& weights, index_t j) noexcept;

/// Ok when x is [tokens, D], finite, and the deciding rows are finite as well: sums of anything else have no size.
[[nodiscard]] Status check_first_product(const Weights& weights, std::span<const float> x, index_t tokens);

}  // namespace signsplit
