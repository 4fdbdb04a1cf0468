// The kernels of an instruction set.
#pragma once

#include "kernels/kernel_table.hpp"
#include "signsplit/activation.hpp"
#include "signsplit/cpu.hpp"

namespace signsplit::cpu {

/// The table of an instruction set that supported_isas() lists.
[[nodiscard]] const KernelTable& kernels_for(Isa isa) noexcept;

/// The kernel of gelu, gelu_tanh or silu.
[[nodiscard]] inline auto smooth_kernel(const KernelTable& kernels, ActivationKind kind) noexcept {
  return kind == ActivationKind::gelu ? kernels.gelu : kind == ActivationKind::gelu_tanh ? kernels.gelu_tanh : kernels.silu;
}

/// Whether AVX-512 comes with VNNI.
[[nodiscard]] bool has_avx512vnni() noexcept;

}  // namespace signsplit::cpu
