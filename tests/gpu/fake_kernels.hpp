// The kernels of the imaginary machine: the emulated ones, under the names of the compiled ones.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "kernel_arguments.hpp"

namespace signsplit::test {

/// What a function pointer of find_kernel() points to here.
struct FakeKernel {
  std::string name;
  gpu::KernelKind kind;
  std::size_t allowed_shared_bytes = 16 * 1024;  ///< until cudaFuncSetAttribute says otherwise
};

/// nullptr for what find_kernel() never gave.
[[nodiscard]] FakeKernel* fake_kernel(const void* function);
/// All kernels as find_kernel() gives them first.
void reset_fake_kernels();

struct KernelCall {
  const FakeKernel* kernel = nullptr;
  gpu::KernelArguments arguments;
};
struct DeviceMemorySpan {
  const std::byte* begin = nullptr;
  std::size_t bytes = 0;
};

/// Runs calls side by side, each after the one before where its body says so. Empty, or the first rule that was broken: also
/// when a kernel is not that of its plan or touches what is in no span.
[[nodiscard]] std::string run_kernels(std::span<const KernelCall> calls, std::span<const DeviceMemorySpan> memory, std::uint64_t seed);

}  // namespace signsplit::test
