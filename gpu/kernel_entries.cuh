// Defines the __global__ functions of one weight type. Each .cu file does so for one type, so that they compile side by side.
#pragma once

#include "device_block.cuh"
#include "kernels.hpp"
#include "kernels/row_kernels.hpp"

namespace signsplit::gpu {

inline constexpr int kMaxThreads = (8 + 1) * kWarpLanes;

}  // namespace signsplit::gpu

// One block on a multiprocessor: it takes all of its shared memory and may take all registers.
#define SIGNSPLIT_KERNEL(name, body, weight, tokens)                                                     \
  extern "C" __global__ void __launch_bounds__(signsplit::gpu::kMaxThreads, 1)                            \
      name(const __grid_constant__ signsplit::gpu::KernelArguments arguments) {                           \
    extern __shared__ __align__(128) std::byte shared_memory[];                                           \
    signsplit::gpu::DeviceBlock block(shared_memory, arguments.launch.consumer_warps);                    \
    signsplit::gpu::body<signsplit::gpu::DeviceBlock, signsplit::gpu::weight, tokens>(block, arguments);  \
  }

// The six row kernels of a type, and the function that finds them.
#define SIGNSPLIT_ROW_KERNELS(type, weight)                                              \
  SIGNSPLIT_KERNEL(signsplit_fused_##type##_t1, fused_kernel, weight, 1)                 \
  SIGNSPLIT_KERNEL(signsplit_fused_##type##_t4, fused_kernel, weight, 4)                 \
  SIGNSPLIT_KERNEL(signsplit_first_##type##_t1, first_kernel, weight, 1)                 \
  SIGNSPLIT_KERNEL(signsplit_first_##type##_t4, first_kernel, weight, 4)                 \
  SIGNSPLIT_KERNEL(signsplit_second_##type##_t1, second_kernel, weight, 1)               \
  SIGNSPLIT_KERNEL(signsplit_second_##type##_t4, second_kernel, weight, 4)               \
  namespace signsplit::gpu {                                                             \
  KernelEntry find_##type##_kernel(KernelKind kind, bool one_token) {                    \
    switch (kind) {                                                                      \
      case KernelKind::fused:                                                            \
        return one_token ? SIGNSPLIT_ENTRY(signsplit_fused_##type##_t1) : SIGNSPLIT_ENTRY(signsplit_fused_##type##_t4);    \
      case KernelKind::first:                                                            \
        return one_token ? SIGNSPLIT_ENTRY(signsplit_first_##type##_t1) : SIGNSPLIT_ENTRY(signsplit_first_##type##_t4);    \
      case KernelKind::second: break;                                                    \
    }                                                                                    \
    return one_token ? SIGNSPLIT_ENTRY(signsplit_second_##type##_t1) : SIGNSPLIT_ENTRY(signsplit_second_##type##_t4);      \
  }                                                                                      \
  }
#define SIGNSPLIT_ENTRY(name) (KernelEntry{reinterpret_cast<const void*>(&name), #name})
