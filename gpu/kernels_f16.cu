#include "kernel_entries.cuh"

SIGNSPLIT_ROW_KERNELS(f16, WeightF16)
