#include "walk_on_device.hpp"

#include <memory>
#include <numeric>

#include "cuda_status.hpp"

namespace signsplit::gpu {

namespace {

/// One thread per item. offsets [items + 1] locates an item's events; with capacity 0 nothing is written but counts [items].
__global__ void walk_items(Plan plan, WalkShape shape, Phase phase, index_t items, const index_t* offsets, WalkEvent* events,
                           index_t* counts) {
  const index_t item = static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (item >= items) return;
  const index_t capacity = events == nullptr ? 0 : offsets[item + 1] - offsets[item];
  WalkRecorder recorder(events == nullptr ? nullptr : events + offsets[item], capacity);
  walk(plan, shape, phase, item, recorder);
  counts[item] = recorder.count();
}

struct Free {
  void operator()(void* pointer) const { cudaFree(pointer); }
};
template <class T>
using DeviceArray = std::unique_ptr<T[], Free>;

template <class T>
Result<DeviceArray<T>> allocate(std::size_t count) {
  void* pointer = nullptr;
  if (Status status = cuda_status(cudaMalloc(&pointer, count * sizeof(T)), "allocating"); !status) return status;
  return DeviceArray<T>(static_cast<T*>(pointer));
}

template <class T>
Status copy_to_host(std::vector<T>& to, const T* from) {
  return cuda_status(cudaMemcpy(to.data(), from, to.size() * sizeof(T), cudaMemcpyDeviceToHost), "walking");
}

}  // namespace

Result<std::vector<WalkEvent>> walk_on_device(const Plan& plan, WalkShape shape, Phase phase, int device) {
  if (Status status = cuda_status(cudaSetDevice(device), "selecting a device"); !status) return status;
  const index_t items = item_count(plan, shape, phase);
  const unsigned threads = 64, blocks = static_cast<unsigned>(ceil_div(items, threads));

  auto counts = allocate<index_t>(static_cast<std::size_t>(items));
  if (!counts) return counts.status();
  walk_items<<<blocks, threads>>>(plan, shape, phase, items, nullptr, nullptr, counts->get());
  if (Status status = cuda_status(cudaGetLastError(), "launching the walk"); !status) return status;
  std::vector<index_t> count(static_cast<std::size_t>(items));
  if (Status status = copy_to_host(count, counts->get()); !status) return status;

  std::vector<index_t> offset(count.size() + 1, 0);
  std::partial_sum(count.begin(), count.end(), offset.begin() + 1);
  auto offsets = allocate<index_t>(offset.size());
  if (!offsets) return offsets.status();
  const cudaError_t copied =
      cudaMemcpy(offsets->get(), offset.data(), offset.size() * sizeof(index_t), cudaMemcpyHostToDevice);
  if (Status status = cuda_status(copied, "copying"); !status) return status;

  std::vector<WalkEvent> recorded(static_cast<std::size_t>(offset.back()));
  auto events = allocate<WalkEvent>(recorded.size());
  if (!events) return events.status();
  walk_items<<<blocks, threads>>>(plan, shape, phase, items, offsets->get(), events->get(), counts->get());
  if (Status status = cuda_status(cudaGetLastError(), "launching the walk"); !status) return status;
  if (Status status = copy_to_host(recorded, events->get()); !status) return status;
  return recorded;
}

}  // namespace signsplit::gpu
