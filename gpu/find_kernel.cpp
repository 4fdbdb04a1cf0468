#include "kernels.hpp"

#include <iterator>

#include "kernel_list.hpp"

namespace signsplit::gpu {

// Defined by kernel_entries.cuh in the .cu files.
#define SIGNSPLIT_DECLARE(kind, type) KernelEntry find_##kind##_##type(bool one_token);
#define SIGNSPLIT_DECLARE_TYPE(type) SIGNSPLIT_KERNEL_KINDS(SIGNSPLIT_DECLARE, type)
SIGNSPLIT_KERNEL_TYPES(SIGNSPLIT_DECLARE_TYPE)
#undef SIGNSPLIT_DECLARE_TYPE
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
#define SIGNSPLIT_FINDER(kind, type) .kind = find_##kind##_##type,
#define SIGNSPLIT_FINDERS(type) Finders{SIGNSPLIT_KERNEL_KINDS(SIGNSPLIT_FINDER, type)},

}  // namespace

KernelEntry find_kernel(KernelKind kind, Strategy strategy, DType dtype, index_t batch) {
  const bool one_token = token_block(batch) == 1;
  const Finders types[] = {SIGNSPLIT_KERNEL_TYPES(SIGNSPLIT_FINDERS)};
  const auto index = static_cast<std::size_t>(dtype);
  if (index >= std::size(types)) return {};
  const Finders& find = types[index];
  if (kind == KernelKind::first) return find.first(one_token);
  if (kind == KernelKind::second) return find.second(one_token);
  if (strategy == Strategy::sign_split) return find.split(one_token);
  return strategy == Strategy::certified ? find.certified(one_token) : find.fused(one_token);
}

}  // namespace signsplit::gpu
