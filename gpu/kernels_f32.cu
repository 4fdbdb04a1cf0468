#include "kernel_entries.cuh"

SIGNSPLIT_ROW_KERNELS(f32, WeightF32)
