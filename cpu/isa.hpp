// The kernels of an instruction set.
#pragma once

#include "kernels/kernel_table.hpp"
#include "signsplit/cpu.hpp"

namespace signsplit::cpu {

/// The table of an instruction set that supported_isas() lists.
[[nodiscard]] const KernelTable& kernels_for(Isa isa) noexcept;

/// Whether AVX-512 comes with VNNI.
[[nodiscard]] bool has_avx512vnni() noexcept;

}  // namespace signsplit::cpu
