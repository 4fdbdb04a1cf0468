// The kernels by name: all that there are, and the one that a step of a plan is to run.
#pragma once

#include <set>
#include <string>

#include "kernel_arguments.hpp"
#include "kernel_list.hpp"
#include "signsplit/dtype.hpp"

namespace signsplit::test {

/// "signsplit_<kind>_<type>_t<tokens>", as profilers show them.
inline std::set<std::string> all_kernel_names() {
  std::set<std::string> names;
#define SIGNSPLIT_ADD_NAME(kind, type) names.insert({"signsplit_" #kind "_" #type "_t1", "signsplit_" #kind "_" #type "_t4"});
#define SIGNSPLIT_ADD_NAMES(type) SIGNSPLIT_KERNEL_KINDS(SIGNSPLIT_ADD_NAME, type)
  SIGNSPLIT_KERNEL_TYPES(SIGNSPLIT_ADD_NAMES)
#undef SIGNSPLIT_ADD_NAMES
#undef SIGNSPLIT_ADD_NAME
  return names;
}

inline std::string kernel_name(gpu::KernelKind kind, Strategy strategy, DType dtype, index_t batch) {
  const std::string what = kind == gpu::KernelKind::first    ? "first"
                           : kind == gpu::KernelKind::second ? "second"
                           : strategy == Strategy::sign_split ? "split"
                           : strategy == Strategy::certified  ? "certified"
                                                              : "fused";
  return "signsplit_" + what + "_" + std::string(to_string(dtype)) + (batch == 1 ? "_t1" : "_t4");
}

}  // namespace signsplit::test
