#include "fake_runtime.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace signsplit::test {
namespace {

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

}  // namespace

Runtime& runtime() {
  static Runtime one;
  return one;
}

cudaError_t broken(const std::string& rule) {
  if (runtime().machine.error.empty()) runtime().machine.error = rule;
  return cudaErrorLaunchFailure;
}

Operations& target(cudaStream_t handle) {
  CUstream_st& stream = runtime().stream(handle);
  return stream.capturing ? stream.captured : stream.waiting;
}

bool capturing() {
  return std::any_of(runtime().streams.begin(), runtime().streams.end(), [](const CUstream_st* s) { return s->capturing; });
}

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
