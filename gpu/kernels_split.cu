#include "kernel_entries.cuh"
#include "kernels/split_steps.hpp"

SIGNSPLIT_TOKEN_KERNELS(split, f32, split_kernel, WeightF32)
SIGNSPLIT_TOKEN_KERNELS(split, bf16, split_kernel, WeightBf16)
