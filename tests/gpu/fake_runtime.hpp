// What the imaginary machine's CUDA runtime knows (fake_cuda.cpp is the door to it), and how its streams run.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "fake_kernels.hpp"
#include "fake_machine.hpp"

// What the runtime's handles point to.
struct CUevent_st {
  CUstream_st* stream = nullptr;
  double time_s = -1;  // not reached
};

namespace signsplit::test {

/// Something in a stream: a copy or a fill (`to`, bytes; from a snapshot of the host's memory, or from `from`), a kernel, or an event.
struct Operation {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  std::vector<std::byte> snapshot;
  std::size_t bytes = 0;
  FakeLaunch launch;
  KernelCall call;
  CUevent_st* event = nullptr;
};
using Operations = std::deque<Operation>;

}  // namespace signsplit::test

struct CUstream_st {
  int device = 0;
  signsplit::test::Operations waiting;
  double time_s = 0;
  bool capturing = false;
  signsplit::test::Operations captured;
};
struct CUgraph_st {
  signsplit::test::Operations operations;
};
struct CUgraphExec_st {
  signsplit::test::Operations operations;
};

namespace signsplit::test {

struct Allocation {
  std::size_t bytes = 0;
  int device = 0;
};

struct Runtime {
  FakeMachine machine;
  int current_device = 0;
  CUstream_st default_stream;
  std::map<std::byte*, Allocation> memory;
  std::set<CUstream_st*> streams;
  std::set<CUevent_st*> events;
  std::set<CUgraph_st*> graphs;
  std::set<CUgraphExec_st*> graph_execs;
  std::uint64_t seed = 1;

  [[nodiscard]] FakeGpu* gpu(int device) {
    const auto index = static_cast<std::size_t>(device);
    return device >= 0 && index < machine.gpus.size() ? &machine.gpus[index] : nullptr;
  }
  CUstream_st& stream(cudaStream_t handle) { return handle == nullptr ? default_stream : *handle; }
};

/// The one of this process.
[[nodiscard]] Runtime& runtime();

/// Notes the first rule that was broken; all that follows fails.
cudaError_t broken(const std::string& rule);

/// Where an operation goes: the graph, when the stream is captured; else the stream.
[[nodiscard]] Operations& target(cudaStream_t handle);
/// True while any stream is captured.
[[nodiscard]] bool capturing();

/// Everything that was put into the stream, into all streams, happens now.
cudaError_t finish(CUstream_st& stream);
void finish_all();

cudaError_t enqueue_copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t handle);
cudaError_t enqueue_fill(void* to, int value, std::size_t bytes, cudaStream_t handle);

}  // namespace signsplit::test
