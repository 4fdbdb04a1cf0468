// How the kernels of a plan go into a stream. Internal; builds with CUDA only.
#pragma once

#include <vector>

#include "cuda_handles.hpp"
#include "kernel_arguments.hpp"
#include "kernels.hpp"
#include "signsplit/gpu.hpp"

namespace signsplit::gpu {

/// What a plan needs on a device: its kernels, their shape, and where things lie in the workspace.
struct Launchable {
  std::vector<KernelEntry> kernels;  ///< in the order in which they run
  KernelArguments arguments;         ///< but for the pointers

  [[nodiscard]] const LaunchShape& shape() const { return arguments.launch; }
};

/// invalid_argument or unsupported with the rule that the plan breaks for this device. Asks no device but by `device`.
[[nodiscard]] Result<Launchable> prepare(const Plan& plan, const Problem& problem, const Device& device,
                                         const Options& options);

/// Lets the kernels use the shared memory of their shape, and makes sure that the current device can hold all blocks at once.
[[nodiscard]] Status configure(const Launchable& launchable, const Device& device);

/// Launches the kernels of one call. `follows` says that a kernel of ours is in the stream before them.
[[nodiscard]] Status enqueue(const Launchable& launchable, const KernelArguments& arguments, Launch launch, bool follows,
                             cudaStream_t stream);

}  // namespace signsplit::gpu
