// The CUDA runtime of the imaginary machine. Linked before the real one, whose functions are then not taken.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>

#include "fake_runtime.hpp"

using namespace signsplit;
using namespace signsplit::test;

namespace {

/// Every function that can fail begins with it.
#define SIGNSPLIT_ENTER() \
  if (const cudaError_t failure = enter(); failure != cudaSuccess) return failure
cudaError_t enter() {
  FakeMachine& machine = runtime().machine;
  if (machine.calls++ == machine.fail_call) return cudaErrorUnknown;
  if (!machine.error.empty()) return cudaErrorLaunchFailure;
  if (machine.driver_version == 0) return cudaErrorInsufficientDriver;
  return machine.gpus.empty() ? cudaErrorNoDevice : cudaSuccess;
}

template <class T>
cudaError_t make(std::set<T*>& all, T** handle) {
  *handle = *all.insert(new T).first;
  return cudaSuccess;
}
template <class T>
cudaError_t destroy(std::set<T*>& all, T* handle) {
  if (all.erase(handle) == 0) return broken("something is destroyed that is not there");
  delete handle;
  return cudaSuccess;
}

}  // namespace

// ---- devices ----

cudaError_t cudaDriverGetVersion(int* version) {
  *version = runtime().machine.driver_version;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  SIGNSPLIT_ENTER();
  *count = static_cast<int>(runtime().machine.gpus.size());
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  SIGNSPLIT_ENTER();
  if (runtime().gpu(device) == nullptr) return cudaErrorInvalidDevice;
  runtime().current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  SIGNSPLIT_ENTER();
  const FakeGpu* gpu = runtime().gpu(device);
  if (gpu == nullptr) return cudaErrorInvalidDevice;
  *properties = {};
  gpu->name.copy(properties->name, sizeof properties->name - 1);
  properties->major = gpu->major;
  properties->minor = gpu->minor;
  properties->multiProcessorCount = gpu->multiprocessors;
  properties->totalGlobalMem = gpu->memory_bytes;
  properties->l2CacheSize = static_cast<int>(gpu->l2_bytes);
  properties->sharedMemPerBlockOptin = gpu->shared_bytes_per_block;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr name, int device) {
  SIGNSPLIT_ENTER();
  const FakeGpu* gpu = runtime().gpu(device);
  if (gpu == nullptr) return cudaErrorInvalidDevice;
  switch (name) {
    case cudaDevAttrClockRate: *value = 1'500'000; return cudaSuccess;              // kHz
    case cudaDevAttrMemoryClockRate: *value = 2'000'000; return cudaSuccess;        // kHz
    case cudaDevAttrGlobalMemoryBusWidth: *value = 1024; return cudaSuccess;        // bits
    case cudaDevAttrCooperativeLaunch: *value = gpu->cooperative ? 1 : 0; return cudaSuccess;
    default: return cudaErrorInvalidValue;
  }
}
const char* cudaGetErrorString(cudaError_t error) { return error == cudaErrorMemoryAllocation ? "out of memory" : "imaginary error"; }

// ---- memory ----

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  SIGNSPLIT_ENTER();
  if (capturing()) return cudaErrorStreamCaptureUnsupported;
  const int device = runtime().current_device;
  if (fake_bytes_in_use(device) + bytes > runtime().gpu(device)->memory_bytes) return cudaErrorMemoryAllocation;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
  std::memset(memory, 0xa5, bytes);
  runtime().memory[memory] = {bytes, device};
  *pointer = memory;
  return cudaSuccess;
}
cudaError_t cudaFree(void* pointer) {
  finish_all();
  if (runtime().memory.erase(static_cast<std::byte*>(pointer)) == 0) return broken("memory is freed that is not there");
  std::free(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total) {
  SIGNSPLIT_ENTER();
  const int device = runtime().current_device;
  *total = runtime().gpu(device)->memory_bytes;
  *available = *total - fake_bytes_in_use(device);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  SIGNSPLIT_ENTER();
  if (capturing()) return cudaErrorStreamCaptureUnsupported;
  const cudaError_t error = enqueue_copy(to, from, bytes, kind, nullptr);
  if (error != cudaSuccess || kind != cudaMemcpyDeviceToHost) return error;
  return finish(runtime().default_stream);  // of the copies without a stream, these alone wait
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  SIGNSPLIT_ENTER();
  return enqueue_copy(to, from, bytes, kind, stream);
}
cudaError_t cudaMemset(void* to, int value, std::size_t bytes) {
  SIGNSPLIT_ENTER();
  if (capturing()) return cudaErrorStreamCaptureUnsupported;
  return enqueue_fill(to, value, bytes, nullptr);
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  SIGNSPLIT_ENTER();
  return enqueue_fill(to, value, bytes, stream);
}

// ---- streams and events ----

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  SIGNSPLIT_ENTER();
  if (flags != cudaStreamNonBlocking) return broken("a stream that waits for the default stream");
  make(runtime().streams, stream);
  (*stream)->device = runtime().current_device;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  finish(*stream);
  return destroy(runtime().streams, stream);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  SIGNSPLIT_ENTER();
  if (runtime().stream(stream).capturing) return cudaErrorStreamCaptureUnsupported;
  return finish(runtime().stream(stream));
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  SIGNSPLIT_ENTER();
  return make(runtime().events, event);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  finish_all();
  return destroy(runtime().events, event);
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  SIGNSPLIT_ENTER();
  event->stream = &runtime().stream(stream);
  event->time_s = -1;
  Operation record;
  record.event = event;
  target(stream).push_back(std::move(record));
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  SIGNSPLIT_ENTER();
  return event->stream == nullptr ? cudaSuccess : finish(*event->stream);
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t stop) {
  SIGNSPLIT_ENTER();
  if (start->time_s < 0 || stop->time_s < 0) return cudaErrorNotReady;
  *milliseconds = static_cast<float>(1e3 * (stop->time_s - start->time_s));
  return cudaSuccess;
}

// ---- graphs ----

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  SIGNSPLIT_ENTER();
  if (stream->capturing) return cudaErrorIllegalState;
  stream->capturing = true;
  stream->captured.clear();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  stream->capturing = false;  // also where the call fails
  *graph = nullptr;
  SIGNSPLIT_ENTER();
  make(runtime().graphs, graph);
  (*graph)->operations = std::move(stream->captured);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  SIGNSPLIT_ENTER();
  ++runtime().machine.graphs;
  make(runtime().graph_execs, exec);
  (*exec)->operations = graph->operations;
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  SIGNSPLIT_ENTER();
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  SIGNSPLIT_ENTER();
  for (Operation operation : exec->operations) {
    operation.launch.from_graph = true;
    target(stream).push_back(std::move(operation));
  }
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return destroy(runtime().graphs, graph); }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return destroy(runtime().graph_execs, exec); }

// ---- kernels ----

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute name, int value) {
  SIGNSPLIT_ENTER();
  FakeKernel* kernel = fake_kernel(function);
  if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
  if (name != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaErrorInvalidValue;
  if (static_cast<std::size_t>(value) > runtime().gpu(runtime().current_device)->shared_bytes_per_block) return cudaErrorInvalidValue;
  kernel->allowed_shared_bytes = static_cast<std::size_t>(value);
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int threads, std::size_t shared_bytes) {
  SIGNSPLIT_ENTER();
  const FakeKernel* kernel = fake_kernel(function);
  if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
  const bool fits = threads <= 1024 && shared_bytes <= kernel->allowed_shared_bytes;
  *blocks = fits ? runtime().gpu(runtime().current_device)->blocks_per_multiprocessor : 0;
  return cudaSuccess;
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** parameters) {
  SIGNSPLIT_ENTER();
  const FakeKernel* kernel = fake_kernel(function);
  if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
  const int device = runtime().stream(config->stream).device;
  const FakeGpu& gpu = *runtime().gpu(device);
  Operation operation;
  operation.call = {kernel, *static_cast<const gpu::KernelArguments*>(parameters[0])};
  operation.launch = {kernel->name, device, config->gridDim.x, config->blockDim.x, config->dynamicSmemBytes,
                      false, false, operation.call.arguments.evict_first, operation.call.arguments.active_mask != nullptr, false};
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    const cudaLaunchAttribute& attribute = config->attrs[i];
    operation.launch.cooperative |= attribute.id == cudaLaunchAttributeCooperative && attribute.val.cooperative != 0;
    operation.launch.dependent |= attribute.id == cudaLaunchAttributeProgrammaticStreamSerialization &&
                                  attribute.val.programmaticStreamSerializationAllowed != 0;
  }
  const gpu::LaunchShape& shape = operation.call.arguments.launch;
  if (operation.launch.blocks != static_cast<unsigned>(shape.ctas) || operation.launch.threads != static_cast<unsigned>(shape.threads()) ||
      operation.launch.shared_bytes != static_cast<std::size_t>(shape.shared.bytes)) {
    return broken(kernel->name + " is launched in another shape than its arguments say");
  }
  if (operation.launch.shared_bytes > kernel->allowed_shared_bytes) return cudaErrorInvalidValue;
  const unsigned resident = static_cast<unsigned>(gpu.multiprocessors * gpu.blocks_per_multiprocessor);
  if (operation.launch.blocks > resident) return broken("a kernel whose blocks wait for each other do not all fit");
  if (operation.launch.cooperative && !gpu.cooperative) return cudaErrorNotSupported;
  if (operation.launch.dependent && gpu.major < 9) return cudaErrorNotSupported;
  target(config->stream).push_back(std::move(operation));
  return cudaSuccess;
}
