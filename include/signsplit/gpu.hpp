// The GPU executor's public interface. It is the same in builds with and without CUDA; without, every call answers
// `unsupported` and says so.
#pragma once

#include <string>
#include <vector>

#include "signsplit/plan.hpp"
#include "signsplit/status.hpp"

namespace signsplit::gpu {

/// True when the library was built with the CUDA toolkit.
[[nodiscard]] bool built_with_cuda() noexcept;

struct Device {
  int index = 0;
  std::string name;
  int compute_major = 0, compute_minor = 0;
  int multiprocessors = 0;
  std::size_t memory_bytes = 0;
};

/// The devices of this machine; or why there are none: no CUDA in this build, no driver, no device.
[[nodiscard]] Result<std::vector<Device>> devices();

/// Ok when device `index` can run the plan; else the rule in words.
[[nodiscard]] Status can_run(const Plan& plan, const Problem& problem, int index = 0);

}  // namespace signsplit::gpu
