// A machine with GPUs that never were, behind the functions of the CUDA runtime that the executor's host code calls
// (fake_cuda.cpp defines them), so that this code runs in the tests as it is. Its kernels are the emulated ones. It is as
// unhelpful as the runtime may be: what is put into a stream happens when somebody waits for the stream and no sooner, new
// memory holds garbage, streams do not wait for the default stream, and what a graph must not capture fails.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "signsplit/gpu.hpp"

namespace signsplit::test {

struct FakeGpu {
  std::string name;
  int major = 9, minor = 0;
  int multiprocessors = 3;
  std::size_t shared_bytes_per_block = 48 * 1024;
  std::size_t memory_bytes = std::size_t{64} << 20;
  std::size_t l2_bytes = std::size_t{1} << 20;
  bool cooperative = true;
  int blocks_per_multiprocessor = 1;  ///< that fit, whatever they need
};

/// A kernel that ran.
struct FakeLaunch {
  std::string kernel;
  int device = 0;
  unsigned blocks = 0, threads = 0;
  std::size_t shared_bytes = 0;
  bool cooperative = false, dependent = false, evict_first = false, writes_mask = false, from_graph = false;

  friend bool operator==(const FakeLaunch&, const FakeLaunch&) = default;
};

inline constexpr double kFakeKernelSeconds = 1e-3;  ///< of every kernel, by the device's clock
inline constexpr double kFakeCopySeconds = 16e-3;   ///< of every copy and fill

struct FakeMachine {
  std::vector<FakeGpu> gpus = {{.name = "NVIDIA Imaginary Three"}, {.name = "NVIDIA Imaginary Five", .multiprocessors = 5}};
  int driver_version = 13000;  ///< 0: no driver

  int calls = 0;       ///< of functions that can fail
  int fail_call = -1;  ///< the call with this number fails; -1: none

  std::vector<FakeLaunch> launches;
  std::string error;   ///< the first rule that was broken, by a kernel or by the host; then all that follows fails
  int graphs = 0;      ///< that were made ready to be launched
};

/// The machine of this process.
[[nodiscard]] FakeMachine& fake_machine();
/// Bytes that are allocated on a device; and of everything else, how many objects live: streams, events, graphs.
[[nodiscard]] std::size_t fake_bytes_in_use(int device);
[[nodiscard]] int fake_objects();
/// What measure_device() answers for a device of the machine.
[[nodiscard]] gpu::DeviceFigures fake_figures(const gpu::Device& device);

/// The machine as new. What lives on it still lives.
void reset_fake_machine();

}  // namespace signsplit::test
