// CUDA objects that free themselves: memory, streams, events, graphs. Builds with CUDA only.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "cuda_status.hpp"

namespace signsplit::gpu {

struct FreeDeviceMemory {
  void operator()(void* pointer) const { cudaFree(pointer); }
};
template <class T>
using DeviceArray = std::unique_ptr<T[], FreeDeviceMemory>;

/// `count` elements in the current device's memory; count 0 gives no memory, and is no error.
template <class T>
[[nodiscard]] Result<DeviceArray<T>> allocate(std::size_t count, const std::string& what) {
  if (count == 0) return DeviceArray<T>();
  void* pointer = nullptr;
  const cudaError_t error = cudaMalloc(&pointer, count * sizeof(T));
  if (Status status = cuda_status(error, "allocating " + std::to_string(count * sizeof(T)) + " bytes for " + what); !status) {
    return status;
  }
  return DeviceArray<T>(static_cast<T*>(pointer));
}

/// Waits for what was asked of the default stream. Our streams do not wait for it, and copies and fills without a stream may
/// return before they are done.
[[nodiscard]] inline Status wait_for_default_stream() { return cuda_status(cudaStreamSynchronize(nullptr), "copying"); }

/// The same, filled from the host; waits until the copy is done.
template <class T>
[[nodiscard]] Result<DeviceArray<T>> upload(std::span<const T> from, const std::string& what) {
  auto to = allocate<T>(from.size(), what);
  if (!to || from.empty()) return to;
  const cudaError_t error = cudaMemcpy(to->get(), from.data(), from.size_bytes(), cudaMemcpyHostToDevice);
  if (Status status = cuda_status(error, "copying " + what + " to the device"); !status) return status;
  if (Status status = wait_for_default_stream(); !status) return status;
  return to;
}

struct DestroyStream {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
};
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, DestroyStream>;
[[nodiscard]] inline Result<Stream> make_stream() {
  cudaStream_t stream = nullptr;
  if (Status status = cuda_status(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream"); !status) {
    return status;
  }
  return Stream(stream);
}

struct DestroyEvent {
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, DestroyEvent>;
[[nodiscard]] inline Result<Event> make_event() {
  cudaEvent_t event = nullptr;
  if (Status status = cuda_status(cudaEventCreate(&event), "making an event"); !status) return status;
  return Event(event);
}

struct DestroyGraph {
  void operator()(cudaGraph_t graph) const { cudaGraphDestroy(graph); }
};
using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, DestroyGraph>;

struct DestroyGraphExec {
  void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
};
using GraphExec = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, DestroyGraphExec>;

/// A graph of what `enqueue(stream) -> Status` puts into the stream, ready to be launched: its first launch is as the later ones.
template <class Enqueue>
[[nodiscard]] Result<GraphExec> capture(cudaStream_t stream, const Enqueue& enqueue) {
  const cudaError_t begun = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  if (Status status = cuda_status(begun, "starting a graph"); !status) return status;
  const Status enqueued = enqueue(stream);
  cudaGraph_t raw = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream, &raw);
  const Graph graph(raw);
  if (!enqueued) return enqueued;
  if (Status status = cuda_status(ended, "ending a graph"); !status) return status;
  cudaGraphExec_t exec = nullptr;
  if (Status status = cuda_status(cudaGraphInstantiate(&exec, graph.get(), 0), "instantiating a graph"); !status) return status;
  GraphExec graph_exec(exec);
  if (Status status = cuda_status(cudaGraphUpload(exec, stream), "uploading a graph"); !status) return status;
  if (Status status = cuda_status(cudaStreamSynchronize(stream), "uploading a graph"); !status) return status;
  return Result<GraphExec>(std::move(graph_exec));
}

/// Two events around what is enqueued, and the seconds between them.
class DeviceClock {
 public:
  [[nodiscard]] static Result<DeviceClock> create() {
    auto start = make_event(), stop = make_event();
    if (!start) return start.status();
    if (!stop) return stop.status();
    return DeviceClock(std::move(*start), std::move(*stop));
  }

  /// Waits until everything is done.
  template <class Enqueue>
  [[nodiscard]] Result<double> seconds(cudaStream_t stream, const Enqueue& enqueue) const {
    if (Status status = cuda_status(cudaEventRecord(start_.get(), stream), "recording an event"); !status) return status;
    if (Status status = enqueue(stream); !status) return status;
    if (Status status = cuda_status(cudaEventRecord(stop_.get(), stream), "recording an event"); !status) return status;
    if (Status status = cuda_status(cudaEventSynchronize(stop_.get()), "running"); !status) return status;
    float milliseconds = 0;
    const cudaError_t error = cudaEventElapsedTime(&milliseconds, start_.get(), stop_.get());
    if (Status status = cuda_status(error, "reading a time"); !status) return status;
    return static_cast<double>(milliseconds) * 1e-3;
  }

 private:
  DeviceClock(Event start, Event stop) : start_(std::move(start)), stop_(std::move(stop)) {}
  Event start_, stop_;
};

}  // namespace signsplit::gpu
