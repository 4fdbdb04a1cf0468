#include "kernel_entries.cuh"

SIGNSPLIT_TOKEN_KERNELS(certified, f32, certified_kernel, WeightF32)
SIGNSPLIT_TOKEN_KERNELS(certified, bf16, certified_kernel, WeightBf16)
