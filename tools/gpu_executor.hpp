// A CUDA device behind the executor interface.
#pragma once

#include <memory>

#include "signsplit/gpu.hpp"
#include "tools/executor.hpp"

namespace signsplit::tools {

struct GpuSettings {
  gpu::Options options;
  /// Turns are chains over the whole rotation, as decoding goes through a model; else one call at a time, on a device
  /// that was idle, with the launch in its time.
  bool chained = true;
};

/// unsupported, with the reason, when there is no such device or this build has no CUDA.
[[nodiscard]] Result<std::unique_ptr<Executor>> gpu_executor(const GpuSettings& settings);

}  // namespace signsplit::tools
