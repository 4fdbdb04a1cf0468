#include "fake_kernels.hpp"

#include <cstring>
#include <deque>

#include "emulated_ffn.hpp"
#include "fake_machine.hpp"
#include "gpu/device_layer.hpp"
#include "kernel_names.hpp"
#include "kernels.hpp"

namespace signsplit::test {
namespace {

std::deque<FakeKernel>& kernels() {
  static std::deque<FakeKernel> all;  // whose elements never move
  return all;
}

bool holds(DeviceMemorySpan span, const void* p) {
  const auto* at = static_cast<const std::byte*>(p);
  return at != nullptr && at >= span.begin && at < span.begin + span.bytes;
}

/// Bytes that are followed one by one: 0 where kernels only read.
std::size_t cell_bytes(std::span<const KernelCall> calls, DeviceMemorySpan span) {
  for (const KernelCall& call : calls) {
    const gpu::KernelArguments& a = call.arguments;
    if (holds(span, a.active_mask)) return 1;
    if (holds(span, a.y) || holds(span, a.workspace)) return 4;
  }
  return 0;
}

std::string broken_before_start(const KernelCall& call) {
  const gpu::KernelArguments& a = call.arguments;
  if (call.kernel->name != kernel_name(call.kernel->kind, a.plan.strategy, a.problem.dtype, a.problem.batch)) {
    return call.kernel->name + " is not the kernel of its plan";
  }
  std::uint32_t barrier = 1;
  if (a.workspace != nullptr) std::memcpy(&barrier, a.workspace + a.layout.barrier, sizeof barrier);
  if (barrier != 0) return "the workspace was not cleared";
  return {};
}

}  // namespace

FakeKernel* fake_kernel(const void* function) {
  for (FakeKernel& kernel : kernels()) {
    if (&kernel == function) return &kernel;
  }
  return nullptr;
}

void reset_fake_kernels() {
  for (FakeKernel& kernel : kernels()) kernel.allowed_shared_bytes = FakeKernel{}.allowed_shared_bytes;
}

std::string run_kernels(std::span<const KernelCall> calls, std::span<const DeviceMemorySpan> memory, std::uint64_t seed) {
  std::vector<EmulatedGrid::Kernel> bodies;
  for (const KernelCall& call : calls) {
    if (std::string broken = broken_before_start(call); !broken.empty()) return broken;
    const gpu::LaunchShape& launch = call.arguments.launch;
    bodies.push_back({emulated_kernel(call.kernel->kind, call.arguments), launch.ctas, launch.consumer_warps,
                      static_cast<std::size_t>(launch.shared.bytes)});
  }
  EmulatedGrid grid(std::move(bodies), seed);
  for (const DeviceMemorySpan span : memory) grid.add_region("device memory", span.begin, span.bytes, cell_bytes(calls, span), true);
  return grid.run();
}

gpu::DeviceFigures fake_figures(const gpu::Device& device) {
  gpu::DeviceFigures figures;
  figures.device = device;
  figures.copy_Bps = 1e12;
  figures.read_Bps = 1.1e12;
  figures.read_per_multiprocessor_Bps = 4e11;
  figures.read_by_inflight_bytes = {{2048, 2e10}, {32768, 1e12}, {131072, 1.1e12}};
  figures.read_by_footprint_bytes = {{1 << 20, 4e12}, {256 << 20, 1.1e12}};
  figures.launch_stream_s = 2e-6;
  figures.launch_graph_s = 1e-6;
  figures.launch_cooperative_s = 1.5e-6;
  figures.grid_barrier_s = figures.atomic_barrier_s = 1e-6;
  figures.memory_latency_s = 5e-7;
  figures.first_byte_s = 8e-7;
  return figures;
}

}  // namespace signsplit::test

// ---- in place of what only nvcc compiles ----

namespace signsplit::gpu {

KernelEntry find_kernel(KernelKind kind, Strategy strategy, DType dtype, index_t batch) {
  const std::string name = test::kernel_name(kind, strategy, dtype, batch);
  for (const test::FakeKernel& known : test::kernels()) {
    if (known.name == name) return {&known, known.name.c_str()};
  }
  const test::FakeKernel& added = test::kernels().emplace_back(test::FakeKernel{name, kind});
  return {&added, added.name.c_str()};
}

Result<DeviceFigures> measure_device(int device, bool, const Progress& progress) {
  const auto found = find_device(device);
  if (!found) return found.status();
  if (progress) progress(0, 1, "imagining");
  return test::fake_figures(*found);
}

Result<double> time_read(std::span<const DeviceLayer* const> layers) {
  if (layers.empty()) return invalid_argument("no layer to read");
  return static_cast<double>(layers.front()->bytes()) / 1e12;
}

}  // namespace signsplit::gpu
