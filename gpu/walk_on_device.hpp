// Walks a plan on a CUDA device and brings back what happened there. Internal; builds with CUDA only.
#pragma once

#include <vector>

#include "signsplit/status.hpp"
#include "walk_recorder.hpp"

namespace signsplit::gpu {

/// The events of all items of a phase, item after item, each item walked by a device thread of its own. The plan must
/// be valid for the problem. Errors: no device, or what CUDA answered.
[[nodiscard]] Result<std::vector<WalkEvent>> walk_on_device(const Plan& plan, WalkShape shape, Phase phase, int device = 0);

}  // namespace signsplit::gpu
