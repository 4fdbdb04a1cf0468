// W8A8: int8 weights times activations that are quantized per token, exact integers inside.
#pragma once

#include <span>
#include <vector>

#include "signsplit/reference.hpp"

namespace signsplit {

/// One token's x or h as w8a8 multiplies it (docs/exactness.md, section 5): scale = fl(max|v| / 127), a NaN when a v is not
/// finite; q = fl(v / scale), rounded to the nearest integer, ties to even, and limited to [−127, 127]. All q are 0 when
/// the scale is 0 (no v is above about 2^-143) or a NaN. `q` is as long as `values`. Returns the scale.
float quantize_token(std::span<const float> values, std::span<std::int8_t> q) noexcept;

/// What every executor gives for this layer with arithmetic w8a8, bit for bit: y, and z and h before they are quantized
/// (`active`: h's unit is open). x is [batch, D]. The plan is `unfused`; of it, only `parts` matters. One thread, plain
/// loops: this is the definition, written down. invalid_argument when validate() refuses the plan, or x has another size.
[[nodiscard]] Result<ReferenceResult> w8a8_reference(const Plan& plan, const Weights& weights, std::span<const float> x,
                                                     index_t batch);

}  // namespace signsplit
