// Quantization of a token, and which kernels of w8a8 to use.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "kernels/integer_kernels.hpp"
#include "signsplit/cpu.hpp"
#include "workspace.hpp"

namespace signsplit::cpu {

/// fl(max|v| / 127) over the values [i·stride], a NaN when one is not finite.
[[nodiscard]] float integer_scale(const float* values, index_t count, index_t stride);

/// Quantizes the x of a workspace: x_integers, x_scales, x_sums.
void load_integer_x(const Weights& weights, index_t batch, Workspace& workspace);

/// The best kernels of an instruction set that this machine supports.
[[nodiscard]] const IntegerKernels& integer_kernels_for(Isa isa) noexcept;

/// All that this machine supports, by name: what tests compare.
[[nodiscard]] std::vector<std::pair<std::string_view, const IntegerKernels*>> supported_integer_kernels();

}  // namespace signsplit::cpu
