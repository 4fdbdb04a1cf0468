// What a GPU has in place of threads, fork and join: launches, a grid barrier, and bytes in flight (docs/gpu-model.md).
#pragma once

#include "signsplit/sim/predict.hpp"

namespace signsplit::sim {

[[nodiscard]] inline bool is_gpu(const Machine& machine) { return machine.kind == "gpu"; }

/// A figure of the profile, 0 where it has none.
[[nodiscard]] double figure(const Machine& machine, const char* path);

/// Kernels that a plan is launched as: unfused two, the second with the reduction in it; everything else one.
[[nodiscard]] int kernel_count(const Plan& plan);

/// The bandwidth of `workers` blocks where all of them together would get `full_Bps` from a level that answers after
/// `latency_s`: Little's law on their bytes in flight with a soft corner, and not more than their multiprocessors can take in.
[[nodiscard]] double gpu_bandwidth(const Machine& machine, int workers, double full_Bps, double latency_s);
/// Latency of the level that holds a footprint of weights: the second-level cache, half near and half far, or memory.
[[nodiscard]] double gpu_latency_s(const Machine& machine, double footprint_bytes);

/// One launch, by mode; unsupported where the profile has no such mode.
[[nodiscard]] Result<Quantity> launch_cost(const Machine& machine, LaunchMode mode);

/// Launches, first bytes and the barrier in front of the reduction. `footprint_bytes` as for the bandwidth.
[[nodiscard]] Status add_gpu_boundaries(Terms& terms, const Scenario& scenario, const Machine& machine, double footprint_bytes);

}  // namespace signsplit::sim
