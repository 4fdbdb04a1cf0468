// Defines the __global__ functions of one weight type. Each .cu file does so for one type, so that they compile side by side.
#pragma once

#include "device_block.cuh"
#include "kernels.hpp"
#include "kernels/row_kernels.hpp"

// One block on a multiprocessor: it takes all of its shared memory, and may take all registers.
#define SIGNSPLIT_KERNEL(name, body, weight, tokens, strategy)                                                            \
  extern "C" __global__ void __launch_bounds__(                                                                           \
      (signsplit::gpu::max_consumer_warps(signsplit::Strategy::strategy) + 1) * signsplit::gpu::kWarpLanes, 1)             \
      name(const __grid_constant__ signsplit::gpu::KernelArguments arguments) {                                           \
    extern __shared__ __align__(128) std::byte shared_memory[];                                                           \
    signsplit::gpu::DeviceBlock block(shared_memory, arguments.launch.consumer_warps);                                    \
    signsplit::gpu::body<signsplit::gpu::DeviceBlock, signsplit::gpu::weight, tokens>(block, arguments);                  \
  }

#define SIGNSPLIT_ENTRY(name) (KernelEntry{reinterpret_cast<const void*>(&name), #name})

// A kernel for one token and one for more, and the function that finds them: find_<kind>_<type>(one_token).
#define SIGNSPLIT_TOKEN_KERNELS(kind, type, body, weight, strategy)                                                   \
  SIGNSPLIT_KERNEL(signsplit_##kind##_##type##_t1, body, weight, 1, strategy)                                         \
  SIGNSPLIT_KERNEL(signsplit_##kind##_##type##_t4, body, weight, 4, strategy)                                         \
  namespace signsplit::gpu {                                                                                \
  KernelEntry find_##kind##_##type(bool one_token) {                                                        \
    return one_token ? SIGNSPLIT_ENTRY(signsplit_##kind##_##type##_t1) : SIGNSPLIT_ENTRY(signsplit_##kind##_##type##_t4); \
  }                                                                                                         \
  }

// unfused and row_fused.
#define SIGNSPLIT_ROW_KERNELS(type, weight)                        \
  SIGNSPLIT_TOKEN_KERNELS(fused, type, fused_kernel, weight, row_fused)       \
  SIGNSPLIT_TOKEN_KERNELS(first, type, first_kernel, weight, unfused)       \
  SIGNSPLIT_TOKEN_KERNELS(second, type, second_kernel, weight, unfused)
