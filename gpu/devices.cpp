// The GPU interface of a build with CUDA: lists devices. Plans are predicted for GPUs, and not yet run on them.
#include "signsplit/gpu.hpp"

#include <cuda_runtime_api.h>

#include "cuda_status.hpp"

namespace signsplit::gpu {

bool built_with_cuda() noexcept { return true; }

Result<std::vector<Device>> devices() {
  int count = 0;
  if (Status status = cuda_status(cudaGetDeviceCount(&count), "counting the devices"); !status) return status;
  if (count == 0) return cuda_status(cudaErrorNoDevice, "counting the devices");
  std::vector<Device> found;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties;
    const cudaError_t error = cudaGetDeviceProperties(&properties, index);
    if (Status status = cuda_status(error, "asking device " + std::to_string(index)); !status) return status;
    found.push_back({.index = index,
                     .name = properties.name,
                     .compute_major = properties.major,
                     .compute_minor = properties.minor,
                     .multiprocessors = properties.multiProcessorCount,
                     .memory_bytes = properties.totalGlobalMem});
  }
  return found;
}

Status can_run(const Plan& plan, const Problem& problem, int) {
  if (Status status = validate(problem); !status) return status;
  if (Status status = validate(plan, problem); !status) return status;
  return unsupported("this version predicts GPUs and does not run on them");
}

}  // namespace signsplit::gpu
