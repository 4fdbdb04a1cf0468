#include "kernel_entries.cuh"

SIGNSPLIT_ROW_KERNELS(bf16, WeightBf16)
