#include "kernel_entries.cuh"

SIGNSPLIT_TOKEN_KERNELS(certified, f32, certified_kernel, WeightF32, certified)
SIGNSPLIT_TOKEN_KERNELS(certified, bf16, certified_kernel, WeightBf16, certified)
SIGNSPLIT_TOKEN_KERNELS(certified, f16, certified_kernel, WeightF16, certified)
SIGNSPLIT_TOKEN_KERNELS(certified, int8, certified_kernel, WeightInt8, certified)
