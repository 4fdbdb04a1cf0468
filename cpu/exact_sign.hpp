// Pre-activations without rounding error, for the units whose sign the fast arithmetic cannot settle.
#pragma once

#include "signsplit/exact_sum.hpp"
#include "signsplit/weights.hpp"

namespace signsplit::cpu {

/// Row j of up or gate times x [D], plus the unit's bias, as an exact sum.
[[nodiscard]] ExactSum exact_pre_activation(const Weights& weights, Matrix matrix, index_t j, const float* x);

}  // namespace signsplit::cpu
