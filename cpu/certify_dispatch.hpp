// Which form of the kernels of a certificate and of its residual runs.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "kernels/certify_kernels.hpp"
#include "kernels/restored_kernels.hpp"
#include "signsplit/cpu.hpp"

namespace signsplit::cpu {

/// All forms that this build contains and this machine can run, the slowest first. For tests.
[[nodiscard]] std::vector<std::pair<std::string_view, CertifyKernel>> supported_certify_kernels();

/// The best form for an instruction set that supported_isas() lists. Of avx512 it is the one with VNNI where the processor
/// has it: they give the same verdicts.
[[nodiscard]] CertifyKernel certify_kernel_for(Isa isa) noexcept;

/// What quantizes x, likewise.
[[nodiscard]] QuantizeGroup quantize_group_for(Isa isa) noexcept;

/// Those that go with the residual, of an instruction set that supported_isas() lists.
[[nodiscard]] const RestoredKernels& restored_kernels_for(Isa isa) noexcept;

}  // namespace signsplit::cpu
