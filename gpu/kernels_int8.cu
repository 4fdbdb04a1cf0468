#include "kernel_entries.cuh"

SIGNSPLIT_ROW_KERNELS(int8, WeightInt8)
