// The compiled kernels: which one runs a plan. Internal; builds with CUDA only.
#pragma once

#include "kernel_arguments.hpp"

namespace signsplit::gpu {

/// A kernel for cudaLaunchKernelExC: its only parameter is a KernelArguments.
struct KernelEntry {
  const void* function = nullptr;
  const char* name = nullptr;  ///< as ptxas and profilers show it
};

/// The kernel for one step of a plan; a null function when there is none.
[[nodiscard]] KernelEntry find_kernel(KernelKind kind, Strategy strategy, DType dtype, index_t batch);

}  // namespace signsplit::gpu
