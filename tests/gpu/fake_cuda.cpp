// The CUDA runtime of the imaginary machine. Linked before the real one, whose functions are then not taken.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <set>

#include "fake_kernels.hpp"
#include "fake_machine.hpp"

using namespace signsplit;
using namespace signsplit::test;

// What the runtime's handles point to.
struct CUevent_st {
  CUstream_st* stream = nullptr;
  double time_s = -1;  // not reached
};

namespace {

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

}  // namespace

struct CUstream_st {
  int device = 0;
  Operations waiting;
  double time_s = 0;
  bool capturing = false;
  Operations captured;
};
struct CUgraph_st {
  Operations operations;
};
struct CUgraphExec_st {
  Operations operations;
};

namespace {

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

Runtime& runtime() {
  static Runtime one;
  return one;
}

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

cudaError_t broken(const std::string& rule) {
  if (runtime().machine.error.empty()) runtime().machine.error = rule;
  return cudaErrorLaunchFailure;
}

/// The graph, when the stream is captured; else the stream.
Operations& target(cudaStream_t handle) {
  CUstream_st& stream = runtime().stream(handle);
  return stream.capturing ? stream.captured : stream.waiting;
}
bool capturing() {
  return std::any_of(runtime().streams.begin(), runtime().streams.end(), [](const CUstream_st* s) { return s->capturing; });
}

/// True when all bytes lie in one allocation of the device.
bool on_device(const void* p, std::size_t bytes, int device) {
  auto* at = static_cast<std::byte*>(const_cast<void*>(p));
  auto next = runtime().memory.upper_bound(at);
  if (next == runtime().memory.begin()) return false;
  const auto& [begin, allocation] = *--next;
  return allocation.device == device && at + bytes <= begin + allocation.bytes;
}

/// The kernels at the front that run side by side: each but the first was launched as dependent.
std::size_t dependent_kernels(const Operations& waiting) {
  std::size_t count = 1;
  while (count < waiting.size() && waiting[count].call.kernel != nullptr && waiting[count].launch.dependent) ++count;
  return count;
}

void run_front_kernels(CUstream_st& stream) {
  Runtime& all = runtime();
  std::vector<DeviceMemorySpan> memory;
  for (const auto& [begin, allocation] : all.memory) {
    if (allocation.device == stream.device) memory.push_back({begin, allocation.bytes});
  }
  std::vector<KernelCall> calls;
  for (std::size_t count = dependent_kernels(stream.waiting); count > 0; --count) {
    calls.push_back(stream.waiting.front().call);
    all.machine.launches.push_back(stream.waiting.front().launch);
    stream.time_s += kFakeKernelSeconds;
    stream.waiting.pop_front();
  }
  if (const std::string rule = run_kernels(calls, memory, all.seed++); !rule.empty()) broken(rule);
}

/// Everything that was put into the stream happens now.
cudaError_t finish(CUstream_st& stream) {
  while (!stream.waiting.empty()) {
    if (!runtime().machine.error.empty()) {
      stream.waiting.clear();
      return cudaErrorLaunchFailure;
    }
    if (stream.waiting.front().call.kernel != nullptr) {
      run_front_kernels(stream);
      continue;
    }
    const Operation operation = std::move(stream.waiting.front());
    stream.waiting.pop_front();
    if (operation.event != nullptr) {
      operation.event->time_s = stream.time_s;
      continue;
    }
    stream.time_s += kFakeCopySeconds;
    const std::byte* from = operation.from != nullptr ? operation.from : operation.snapshot.data();
    std::memcpy(operation.to, from, operation.bytes);
  }
  return runtime().machine.error.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}

void finish_all() {
  finish(runtime().default_stream);
  for (CUstream_st* stream : runtime().streams) finish(*stream);
}

cudaError_t enqueue_copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t handle) {
  Runtime& all = runtime();
  const int device = handle == nullptr ? all.current_device : handle->device;
  const bool to_device = kind == cudaMemcpyHostToDevice, to_host = kind == cudaMemcpyDeviceToHost;
  if (!to_host && !on_device(to, bytes, device)) return broken("a copy to what is no memory of the device");
  if (!to_device && !on_device(from, bytes, device)) return broken("a copy from what is no memory of the device");
  Operation copy;
  copy.to = static_cast<std::byte*>(to);
  copy.from = static_cast<const std::byte*>(from);
  copy.bytes = bytes;
  if (to_device) {  // the host's memory is read before the call returns; it arrives later
    copy.snapshot.assign(copy.from, copy.from + bytes);
    copy.from = nullptr;
  }
  target(handle).push_back(std::move(copy));
  return cudaSuccess;
}

cudaError_t enqueue_fill(void* to, int value, std::size_t bytes, cudaStream_t handle) {
  const int device = handle == nullptr ? runtime().current_device : handle->device;
  if (!on_device(to, bytes, device)) return broken("a fill of what is no memory of the device");
  Operation fill;
  fill.to = static_cast<std::byte*>(to);
  fill.bytes = bytes;
  fill.snapshot.assign(bytes, static_cast<std::byte>(value));
  target(handle).push_back(std::move(fill));
  return cudaSuccess;
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

namespace signsplit::test {

FakeMachine& fake_machine() { return runtime().machine; }

void reset_fake_machine() {
  runtime().machine = FakeMachine{};
  runtime().current_device = 0;
  reset_fake_kernels();
}

std::size_t fake_bytes_in_use(int device) {
  std::size_t bytes = 0;
  for (const auto& [begin, allocation] : runtime().memory) bytes += allocation.device == device ? allocation.bytes : 0;
  return bytes;
}

int fake_objects() {
  const Runtime& all = runtime();
  return static_cast<int>(all.streams.size() + all.events.size() + all.graphs.size() + all.graph_execs.size());
}

}  // namespace signsplit::test

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
