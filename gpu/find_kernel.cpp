#include "kernels.hpp"

#include <iterator>

namespace signsplit::gpu {

// Defined by kernel_entries.cuh in the .cu files.
#define SIGNSPLIT_DECLARE(type)                   \
  KernelEntry find_fused_##type(bool one_token);  \
  KernelEntry find_first_##type(bool one_token);  \
  KernelEntry find_second_##type(bool one_token); \
  KernelEntry find_split_##type(bool one_token);  \
  KernelEntry find_certified_##type(bool one_token);
SIGNSPLIT_DECLARE(f32)
SIGNSPLIT_DECLARE(bf16)
SIGNSPLIT_DECLARE(f16)
SIGNSPLIT_DECLARE(int8)
#undef SIGNSPLIT_DECLARE

namespace {

/// The finders of one weight type.
struct Finders {
  KernelEntry (*fused)(bool);
  KernelEntry (*first)(bool);
  KernelEntry (*second)(bool);
  KernelEntry (*split)(bool);
  KernelEntry (*certified)(bool);
};
#define SIGNSPLIT_FINDERS(type) \
  Finders { find_fused_##type, find_first_##type, find_second_##type, find_split_##type, find_certified_##type }

}  // namespace

KernelEntry find_kernel(KernelKind kind, Strategy strategy, DType dtype, index_t batch) {
  const bool one_token = token_block(batch) == 1;
  const Finders types[] = {SIGNSPLIT_FINDERS(f32), SIGNSPLIT_FINDERS(bf16), SIGNSPLIT_FINDERS(f16),
                           SIGNSPLIT_FINDERS(int8)};  // in the order of DType
  const auto index = static_cast<std::size_t>(dtype);
  if (index >= std::size(types)) return {};
  const Finders& find = types[index];
  if (kind == KernelKind::first) return find.first(one_token);
  if (kind == KernelKind::second) return find.second(one_token);
  if (strategy == Strategy::sign_split) return find.split(one_token);
  return strategy == Strategy::certified ? find.certified(one_token) : find.fused(one_token);
}

}  // namespace signsplit::gpu
