// Pre-activations without rounding error, for the units whose sign the fast arithmetic cannot settle.
#pragma once

#include "signsplit/exact_sum.hpp"
#include "signsplit/weights.hpp"

namespace signsplit::cpu {

/// row·x + bias as an exact sum. `row` holds d elements of `dtype`, x is [d].
[[nodiscard]] ExactSum exact_pre_activation(const std::byte* row, DType dtype, const float* x, index_t d, float bias);

}  // namespace signsplit::cpu
