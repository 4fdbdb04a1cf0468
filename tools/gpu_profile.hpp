// Machine profiles of GPUs, from what calibration measured.
#pragma once

#include <string>

#include "signsplit/gpu.hpp"
#include "signsplit/sim/machine.hpp"

namespace signsplit::tools {

/// "NVIDIA H200" → "h200": the name under which --hardware knows a device.
[[nodiscard]] std::string profile_name(const gpu::Device& device);

/// `date` in ISO 8601. What was not measured is marked as assumed.
[[nodiscard]] sim::Machine gpu_profile(const gpu::DeviceFigures& figures, const std::string& date);

}  // namespace signsplit::tools
