#include "launch.hpp"

#include <algorithm>
#include <array>
#include <string>

namespace signsplit::gpu {

namespace {

/// Limits of this executor that no other has.
Status check_limits(const Plan& plan, const Problem& problem) {
  if (problem.batch > kMaxBatch) {
    return unsupported("a GPU runs batches up to " + std::to_string(kMaxBatch) + " (got " + std::to_string(problem.batch) + ")");
  }
  if (problem.arithmetic != Arithmetic::f32) return unsupported("a GPU runs no w8a8");
  if (plan.placement == Placement::residual) return unsupported("a GPU keeps the certificate's plane beside the weights: placement beside");
  if (plan.parts > kMaxParts) {
    return unsupported("on a GPU plan.parts must be at most " + std::to_string(kMaxParts) + " (got " +
                       std::to_string(plan.parts) + ")");
  }
  return {};
}

DeviceLimits limits_of(const Device& device, const Options& options) {
  DeviceLimits limits;
  limits.multiprocessors = device.multiprocessors;
  limits.shared_bytes_per_block = static_cast<index_t>(device.shared_bytes_per_block);
  // A dependent kernel starts early only where its blocks fit beside those that drain. Each block has 1 KiB reserved.
  if (options.launch == Launch::programmatic) limits.shared_bytes_per_block = (limits.shared_bytes_per_block - 1024) / 2;
  if (options.stages > 0) limits.max_stages = std::clamp(options.stages, 2, kMaxStages);
  return limits;
}

}  // namespace

Result<Launchable> prepare(const Plan& plan, const Problem& problem, const Device& device, const Options& options) {
  if (Status status = validate(problem); !status) return status;
  if (Status status = validate(plan, problem); !status) return status;
  if (Status status = check_limits(plan, problem); !status) return status;
  if (device.compute_major < 8) {
    return unsupported(device.name + " has compute capability " + std::to_string(device.compute_major) + "." +
                       std::to_string(device.compute_minor) + ": plans need 8.0");
  }
  if (options.launch == Launch::programmatic && device.compute_major < 9) {
    return unsupported("programmatic launches need compute capability 9.0");
  }
  if (options.launch == Launch::cooperative && !device.cooperative_launch) {
    return unsupported(device.name + " has no cooperative launches");
  }
  Launchable launchable;
  for (int i = 0; i < kernel_count(plan); ++i) {
    const KernelEntry kernel = find_kernel(kernel_kind_at(plan, i), plan.strategy, problem.dtype, problem.batch);
    if (kernel.function == nullptr) {
      return unsupported("no GPU kernel for " + std::string(to_string(plan.strategy)) + " with " +
                         std::string(to_string(problem.dtype)) + " weights");
    }
    launchable.kernels.push_back(kernel);
  }
  launchable.arguments = make_arguments(plan, problem, limits_of(device, options));
  launchable.arguments.evict_first = options.evict_first;
  if (!launchable.shape().fits()) {
    return unsupported("the plan needs more than the " + std::to_string(device.shared_bytes_per_block) +
                       " bytes of shared memory of a block: smaller hidden tiles or fewer parts may fit");
  }
  return launchable;
}

Status configure(const Launchable& launchable, const Device& device) {
  const auto shared = static_cast<std::size_t>(launchable.shape().shared.bytes);
  for (const KernelEntry& kernel : launchable.kernels) {
    const std::string name = kernel.name;
    // As much as the device has, since other plans launch the same function with another size.
    const cudaError_t allowed = cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                     static_cast<int>(device.shared_bytes_per_block));
    if (Status status = cuda_status(allowed, "giving " + name + " shared memory"); !status) return status;
    int blocks = 0;
    const cudaError_t asked =
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel.function, launchable.shape().threads(), shared);
    if (Status status = cuda_status(asked, "asking for the occupancy of " + name); !status) return status;
    if (blocks * device.multiprocessors < launchable.shape().ctas) {
      return unsupported("the blocks of " + name + " do not all fit on " + device.name + " at once");
    }
  }
  return {};
}

Status enqueue(const Launchable& launchable, const KernelArguments& arguments, Launch launch, bool follows,
               cudaStream_t stream) {
  for (const KernelEntry& kernel : launchable.kernels) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(launchable.shape().ctas));
    config.blockDim = dim3(static_cast<unsigned>(launchable.shape().threads()));
    config.dynamicSmemBytes = static_cast<std::size_t>(launchable.shape().shared.bytes);
    config.stream = stream;
    cudaLaunchAttribute attribute{};
    if (launch == Launch::cooperative) {
      attribute.id = cudaLaunchAttributeCooperative;
      attribute.val.cooperative = 1;
      config.numAttrs = 1;
    } else if (launch == Launch::programmatic && follows) {
      attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
      attribute.val.programmaticStreamSerializationAllowed = 1;
      config.numAttrs = 1;
    }
    config.attrs = &attribute;
    KernelArguments copy = arguments;
    std::array<void*, 1> parameters{&copy};
    const cudaError_t error = cudaLaunchKernelExC(&config, kernel.function, parameters.data());
    if (Status status = cuda_status(error, std::string("launching ") + kernel.name); !status) return status;
    follows = true;
  }
  return {};
}

}  // namespace signsplit::gpu
