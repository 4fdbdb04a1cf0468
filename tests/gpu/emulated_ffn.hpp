// Runs a plan on the emulated GPU, as the executor would on a real one.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "emulated_block.hpp"
#include "kernel_arguments.hpp"
#include "signsplit/weights.hpp"

namespace signsplit::test {

struct Emulation {
  std::string error;  ///< empty, or which rule of the machine was broken
  std::vector<float> y;
  std::vector<std::uint8_t> mask;
  Statistics statistics;
  std::vector<std::string> kernels;  ///< that ran, by name
};

/// The program of a warp of one kernel. The arguments are borrowed.
[[nodiscard]] EmulatedGrid::Body emulated_kernel(gpu::KernelKind kind, const gpu::KernelArguments& arguments);

/// A small device: 3 multiprocessors, so that parts and slices are dealt unevenly, and stages of a few rows.
inline constexpr gpu::DeviceLimits kSmallDevice{3, 24 * 1024, 2, 5};

/// `side_by_side`: the kernels of an unfused plan start together, as under programmatic dependent launch.
[[nodiscard]] Emulation emulate(const Weights& weights, const Plan& plan, std::span<const float> x, index_t batch,
                                std::uint64_t seed, gpu::DeviceLimits limits = kSmallDevice, Fault fault = {},
                                bool side_by_side = true);

}  // namespace signsplit::test
