// The devices of this machine, as CUDA tells them.
#include <cuda_runtime_api.h>

#include "cuda_status.hpp"
#include "signsplit/gpu.hpp"

namespace signsplit::gpu {

namespace {

/// An attribute that the properties do not hold; 0 when the driver does not know it.
int attribute(cudaDeviceAttr name, int device) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, name, device) == cudaSuccess ? value : 0;
}

/// Why there is no device to count.
Status no_device(cudaError_t error) {
  int driver = 0;  // stays 0 without a driver
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) return unsupported("no CUDA device on this machine: it has no NVIDIA driver");
  return cuda_status(error, "counting the devices");
}

}  // namespace

bool built_with_cuda() noexcept { return true; }

Result<std::vector<Device>> devices() {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) return no_device(error);
  if (count == 0) return no_device(cudaErrorNoDevice);
  int driver = 0;
  if (Status status = cuda_status(cudaDriverGetVersion(&driver), "asking for the driver"); !status) return status;
  std::vector<Device> found;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties;
    const cudaError_t error = cudaGetDeviceProperties(&properties, index);
    if (Status status = cuda_status(error, "asking device " + std::to_string(index)); !status) return status;
    const double memory_clock_hz = 1e3 * attribute(cudaDevAttrMemoryClockRate, index);
    const double bus_bytes = attribute(cudaDevAttrGlobalMemoryBusWidth, index) / 8.0;
    found.push_back({.index = index,
                     .name = properties.name,
                     .compute_major = properties.major,
                     .compute_minor = properties.minor,
                     .multiprocessors = properties.multiProcessorCount,
                     .memory_bytes = properties.totalGlobalMem,
                     .l2_bytes = static_cast<std::size_t>(properties.l2CacheSize),
                     .shared_bytes_per_block = properties.sharedMemPerBlockOptin,
                     .clock_hz = 1e3 * attribute(cudaDevAttrClockRate, index),
                     .memory_peak_Bps = 2 * memory_clock_hz * bus_bytes,  // two transfers per clock
                     .driver_version = driver,
                     .cooperative_launch = attribute(cudaDevAttrCooperativeLaunch, index) != 0});
  }
  return found;
}

Result<Device> find_device(int index) {
  const auto found = devices();
  if (!found) return found.status();
  for (const Device& device : *found) {
    if (device.index == index) return device;
  }
  return unsupported("this machine has " + std::to_string(found->size()) + " CUDA device(s), numbered from 0: no device " +
                     std::to_string(index));
}

Result<std::size_t> free_bytes(int device) {
  if (Status status = cuda_status(cudaSetDevice(device), "selecting a device"); !status) return status;
  std::size_t available = 0, total = 0;
  if (Status status = cuda_status(cudaMemGetInfo(&available, &total), "asking for free memory"); !status) return status;
  return available;
}

}  // namespace signsplit::gpu
