#include "kernel_entries.cuh"
#include "kernels/split_steps.hpp"

SIGNSPLIT_TOKEN_KERNELS(split, f32, split_kernel, WeightF32, sign_split)
SIGNSPLIT_TOKEN_KERNELS(split, bf16, split_kernel, WeightBf16, sign_split)
SIGNSPLIT_TOKEN_KERNELS(split, f16, split_kernel, WeightF16, sign_split)
SIGNSPLIT_TOKEN_KERNELS(split, int8, split_kernel, WeightInt8, sign_split)
