#include "kernels.hpp"

namespace signsplit::gpu {

// Defined by kernel_entries.cuh, one per weight type.
KernelEntry find_f32_kernel(KernelKind kind, bool one_token);
KernelEntry find_bf16_kernel(KernelKind kind, bool one_token);

KernelEntry find_kernel(KernelKind kind, Strategy strategy, DType dtype, index_t batch) {
  if (strategy != Strategy::row_fused && strategy != Strategy::unfused) return {};
  const bool one_token = token_block(batch) == 1;
  switch (dtype) {
    case DType::f32: return find_f32_kernel(kind, one_token);
    case DType::bf16: return find_bf16_kernel(kind, one_token);
    case DType::f16:
    case DType::int8: break;
  }
  return {};
}

}  // namespace signsplit::gpu
