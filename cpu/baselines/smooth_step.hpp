// gelu, gelu_tanh and silu between two products of a library that has none: by the executor's kernel, so that no baseline is slow because of a
// loop that is not the vendor's.
#pragma once

#include "cpu/isa.hpp"

namespace signsplit::baselines {

/// values [count] = activation(values).
inline void smooth_step(ActivationKind kind, index_t count, float* values) {
  static const Result<cpu::Isa> best = cpu::select_isa();  // asking a virtual machine's processor takes microseconds
  cpu::smooth_kernel(cpu::kernels_for(best ? *best : cpu::Isa::scalar), kind)(values, count, values);
}

}  // namespace signsplit::baselines
