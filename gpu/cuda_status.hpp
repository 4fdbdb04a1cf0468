// A CUDA error as a Status.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "signsplit/status.hpp"

namespace signsplit::gpu {

/// Ok, or a message that says what was being done and what CUDA answered: `unsupported` when the machine has no driver,
/// one that is too old for this build, or no device; io_error for everything else.
inline Status cuda_status(cudaError_t error, const std::string& doing) {
  if (error == cudaSuccess) return {};
  const bool no_gpu = error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver;
  return {no_gpu ? StatusCode::unsupported : StatusCode::io_error, "CUDA, " + doing + ": " + cudaGetErrorString(error)};
}

}  // namespace signsplit::gpu
