// Calibration of a device: what the simulator's GPU profile holds, measured.
#include <algorithm>
#include <array>
#include <vector>

#include "cuda_handles.hpp"
#include "device_layer.hpp"
#include "probe_kernels.cuh"
#include "signsplit/gpu.hpp"

namespace signsplit::gpu {

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::size_t kBufferBytes = 1024 * kMiB;  // several times any L2

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Status launched(const char* what) { return cuda_status(cudaGetLastError(), what); }

using ReadKernel = void (*)(const uint4*, std::size_t, int, std::uint32_t*);

/// What keeps the bytes in flight: blocks of one multiprocessor times threads times loads.
struct ReadShape {
  ReadKernel kernel;
  unsigned blocks_per_multiprocessor, threads, loads;
  [[nodiscard]] double inflight_bytes() const { return 16.0 * blocks_per_multiprocessor * threads * loads; }
};

/// In order of the bytes in flight, 2 KiB to 128 KiB.
constexpr std::array<ReadShape, 8> kReadShapes{{{read_probe<1>, 1, 128, 1},
                                                {read_probe<1>, 1, 256, 1},
                                                {read_probe<2>, 1, 256, 2},
                                                {read_probe<4>, 1, 256, 4},
                                                {read_probe<4>, 1, 512, 4},
                                                {read_probe<4>, 2, 384, 4},
                                                {read_probe<8>, 2, 256, 8},
                                                {read_probe<8>, 2, 512, 8}}};

class Prober {
 public:
  static Result<DeviceFigures> run(const Device& device, bool quick, const Progress& progress);

 private:
  Prober(const Device& device, int repeats, Stream stream, DeviceClock clock, DeviceArray<uint4> buffer,
         DeviceArray<std::uint32_t> sink)
      : multiprocessors_(static_cast<unsigned>(device.multiprocessors)), repeats_(repeats), stream_(std::move(stream)),
        clock_(std::move(clock)), buffer_(std::move(buffer)), sink_(std::move(sink)) {}

  template <class Enqueue>
  Result<double> median_seconds(const Enqueue& enqueue) const;
  template <class Enqueue>
  Result<double> graph_step(int steps, const Enqueue& one_step) const;

  Result<double> copy() const;
  Result<double> read(const ReadShape& shape, unsigned multiprocessors, std::size_t bytes, int passes) const;
  Status launch_empty(cudaStream_t stream, int dependent) const;
  Result<double> cooperative(const void* kernel, void** arguments, int steps) const;
  Status measure_reads(DeviceFigures& figures) const;
  Status measure_launches(DeviceFigures& figures, const Device& device) const;
  Status measure_barriers(DeviceFigures& figures) const;
  Status measure_latencies(DeviceFigures& figures) const;

  unsigned multiprocessors_;
  int repeats_;
  Stream stream_;
  DeviceClock clock_;
  DeviceArray<uint4> buffer_;
  DeviceArray<std::uint32_t> sink_;
};

/// One call to warm up, then the median of `repeats_`.
template <class Enqueue>
Result<double> Prober::median_seconds(const Enqueue& enqueue) const {
  std::vector<double> seconds;
  for (int i = 0; i <= repeats_; ++i) {
    const Result<double> once = clock_.seconds(stream_.get(), enqueue);
    if (!once) return once.status();
    if (i > 0) seconds.push_back(*once);
  }
  return median(std::move(seconds));
}

/// Seconds per step of a graph of `steps` steps.
template <class Enqueue>
Result<double> Prober::graph_step(int steps, const Enqueue& one_step) const {
  const auto graph = capture(stream_.get(), [&](cudaStream_t stream) -> Status {
    for (int step = 0; step < steps; ++step) {
      if (Status status = one_step(stream, step); !status) return status;
    }
    return {};
  });
  if (!graph) return graph.status();
  const auto seconds = median_seconds(
      [&](cudaStream_t stream) { return cuda_status(cudaGraphLaunch(graph->get(), stream), "launching a graph"); });
  if (!seconds) return seconds;
  return *seconds / steps;
}

/// Bytes per second, read and written.
Result<double> Prober::copy() const {
  const std::size_t half = kBufferBytes / 2;
  const auto seconds = median_seconds([&](cudaStream_t stream) {
    auto* to = reinterpret_cast<std::byte*>(buffer_.get());
    return cuda_status(cudaMemcpyAsync(to, to + half, half, cudaMemcpyDeviceToDevice, stream), "copying");
  });
  if (!seconds) return seconds;
  return 2.0 * static_cast<double>(half) / *seconds;
}

/// Bytes per second of reading `bytes`, `passes` times over.
Result<double> Prober::read(const ReadShape& shape, unsigned multiprocessors, std::size_t bytes, int passes) const {
  const auto seconds = median_seconds([&](cudaStream_t stream) {
    shape.kernel<<<multiprocessors * shape.blocks_per_multiprocessor, shape.threads, 0, stream>>>(
        buffer_.get(), bytes / sizeof(uint4), passes, sink_.get());
    return launched("launching the read probe");
  });
  if (!seconds) return seconds;
  return static_cast<double>(bytes) * passes / *seconds;
}

Status Prober::measure_reads(DeviceFigures& figures) const {
  for (const ReadShape& shape : kReadShapes) {
    const auto rate = read(shape, multiprocessors_, kBufferBytes, 1);
    if (!rate) return rate.status();
    figures.read_by_inflight_bytes.emplace_back(shape.inflight_bytes(), *rate);
    figures.read_Bps = std::max(figures.read_Bps, *rate);
  }
  for (const std::size_t mib : {4, 8, 16, 24, 32, 40, 48, 64, 96, 128, 256, 512}) {
    const int passes = static_cast<int>(std::max<std::size_t>(2, 1024 / mib));
    const auto rate = read(kReadShapes.back(), multiprocessors_, mib * kMiB, passes);
    if (!rate) return rate.status();
    figures.read_by_footprint_bytes.emplace_back(static_cast<double>(mib * kMiB), *rate);
  }
  const auto alone = read(kReadShapes.back(), 1, 64 * kMiB, 1);
  if (!alone) return alone.status();
  figures.read_per_multiprocessor_Bps = *alone;
  return {};
}

Status Prober::launch_empty(cudaStream_t stream, int dependent) const {
  cudaLaunchConfig_t config{};
  config.gridDim = multiprocessors_;
  config.blockDim = 256;
  config.stream = stream;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &attribute;
  config.numAttrs = dependent != 0 ? 1 : 0;
  return cuda_status(cudaLaunchKernelEx(&config, empty_probe, dependent), "launching an empty kernel");
}

/// Seconds per step of one cooperative launch that does `steps` of them; 0 steps: of the launch itself.
Result<double> Prober::cooperative(const void* kernel, void** arguments, int steps) const {
  const auto seconds = median_seconds([&](cudaStream_t stream) {
    return cuda_status(cudaLaunchCooperativeKernel(kernel, dim3(multiprocessors_), dim3(256), arguments, 0, stream),
                       "launching a cooperative kernel");
  });
  if (!seconds || steps == 0) return seconds;
  return *seconds / steps;
}

Status Prober::measure_launches(DeviceFigures& figures, const Device& device) const {
  constexpr int kSteps = 200;
  const auto in_stream = median_seconds([&](cudaStream_t stream) -> Status {
    for (int step = 0; step < kSteps; ++step) {
      if (Status status = launch_empty(stream, 0); !status) return status;
    }
    return {};
  });
  if (!in_stream) return in_stream.status();
  figures.launch_stream_s = *in_stream / kSteps;
  const auto in_graph = graph_step(kSteps, [&](cudaStream_t stream, int) { return launch_empty(stream, 0); });
  if (!in_graph) return in_graph.status();
  figures.launch_graph_s = *in_graph;
  if (device.compute_major >= 9) {
    const auto dependent = graph_step(kSteps, [&](cudaStream_t stream, int) { return launch_empty(stream, 1); });
    if (!dependent) return dependent.status();
    figures.launch_programmatic_s = *dependent;
  }
  if (device.cooperative_launch) {
    int none = 0;
    void* arguments[] = {&none};
    const auto one = graph_step(50, [&](cudaStream_t stream, int) {
      return cuda_status(cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(grid_barrier_probe), dim3(multiprocessors_),
                                                     dim3(256), arguments, 0, stream),
                         "launching a cooperative kernel");
    });
    if (!one) return one.status();
    figures.launch_cooperative_s = *one;
  }
  return {};
}

/// The launch itself is in the time of one step and of many: the difference is that of the steps.
Status Prober::measure_barriers(DeviceFigures& figures) const {
  constexpr int kSteps = 1000;
  int few = 1, many = 1 + kSteps;
  void* few_steps[] = {&few};
  void* many_steps[] = {&many};
  const void* grid = reinterpret_cast<const void*>(grid_barrier_probe);
  const auto short_grid = cooperative(grid, few_steps, 0), long_grid = cooperative(grid, many_steps, 0);
  if (!short_grid) return short_grid.status();
  if (!long_grid) return long_grid.status();
  figures.grid_barrier_s = (*long_grid - *short_grid) / kSteps;

  std::uint32_t* counter = sink_.get();
  void* arguments[] = {&counter, &many};
  const auto atomic = median_seconds([&](cudaStream_t stream) -> Status {
    if (Status status = cuda_status(cudaMemsetAsync(counter, 0, sizeof(*counter), stream), "clearing"); !status) return status;
    const cudaError_t error = cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(atomic_barrier_probe),
                                                          dim3(multiprocessors_), dim3(256), arguments, 0, stream);
    return cuda_status(error, "launching a cooperative kernel");
  });
  if (!atomic) return atomic.status();
  figures.atomic_barrier_s = *atomic / many;
  return {};
}

Status Prober::measure_latencies(DeviceFigures& figures) const {
  constexpr int kSteps = 200;
  const std::size_t count = kBufferBytes / sizeof(uint4);
  const std::size_t step_vectors = std::size_t{multiprocessors_} * 256;
  const auto cold = graph_step(kSteps, [&](cudaStream_t stream, int step) {
    first_byte_probe<<<multiprocessors_, 256, 0, stream>>>(buffer_.get(), count, static_cast<std::size_t>(step) * step_vectors * 3,
                                                           sink_.get());
    return launched("launching the first-byte probe");
  });
  if (!cold) return cold.status();
  figures.first_byte_s = std::max(0.0, *cold - figures.launch_graph_s);

  // A cycle through the whole buffer in steps of a prime number of 4 KiB blocks: no two visits share a line or a page.
  const std::size_t words = kBufferBytes / sizeof(std::uint32_t), page = 1024, pages = words / page;
  std::vector<std::uint32_t> next(words, 0);
  for (std::size_t p = 0; p < pages; ++p) next[p * page] = static_cast<std::uint32_t>((p + 7919) % pages * page);
  auto* device_next = reinterpret_cast<std::uint32_t*>(buffer_.get());
  const cudaError_t copied = cudaMemcpy(device_next, next.data(), kBufferBytes, cudaMemcpyHostToDevice);
  if (Status status = cuda_status(copied, "copying the chase"); !status) return status;
  if (Status status = wait_for_default_stream(); !status) return status;
  constexpr int kChase = 20000;
  const auto chase = median_seconds([&](cudaStream_t stream) {
    chase_probe<<<1, 1, 0, stream>>>(device_next, kChase, sink_.get());
    return launched("launching the latency probe");
  });
  if (!chase) return chase.status();
  figures.memory_latency_s = *chase / kChase;
  return {};
}

Result<DeviceFigures> Prober::run(const Device& device, bool quick, const Progress& progress) {
  if (Status status = cuda_status(cudaSetDevice(device.index), "selecting a device"); !status) return status;
  auto stream = make_stream();
  if (!stream) return stream.status();
  auto clock = DeviceClock::create();
  if (!clock) return clock.status();
  auto buffer = allocate<uint4>(kBufferBytes / sizeof(uint4), "the probes");
  if (!buffer) return buffer.status();
  auto sink = allocate<std::uint32_t>(4, "the probes");
  if (!sink) return sink.status();
  // Not zeros, which a memory may store or move in another way than data.
  std::vector<std::uint32_t> noise(kBufferBytes / sizeof(std::uint32_t));
  std::uint32_t seed = 12345;
  for (std::uint32_t& word : noise) word = seed = seed * 1664525u + 1013904223u;
  const cudaError_t copied = cudaMemcpy(buffer->get(), noise.data(), kBufferBytes, cudaMemcpyHostToDevice);
  if (Status status = cuda_status(copied, "filling the buffer"); !status) return status;
  if (Status status = wait_for_default_stream(); !status) return status;

  Prober prober(device, quick ? 5 : 11, std::move(*stream), std::move(*clock), std::move(*buffer), std::move(*sink));
  DeviceFigures figures;
  figures.device = device;
  int index = 0;
  const auto tell = [&](const char* what) {
    if (progress) progress(index++, 5, what);
  };
  tell("copying");
  const auto copied_Bps = prober.copy();
  if (!copied_Bps) return copied_Bps.status();
  figures.copy_Bps = *copied_Bps;
  tell("reading");
  if (Status status = prober.measure_reads(figures); !status) return status;
  tell("launches");
  if (Status status = prober.measure_launches(figures, device); !status) return status;
  tell("barriers");
  if (device.cooperative_launch) {
    if (Status status = prober.measure_barriers(figures); !status) return status;
  }
  tell("latencies");
  if (Status status = prober.measure_latencies(figures); !status) return status;
  return figures;
}

}  // namespace

Result<DeviceFigures> measure_device(int device, bool quick, const Progress& progress) {
  const auto found = find_device(device);
  if (!found) return found.status();
  return Prober::run(*found, quick, progress);
}

Result<double> time_read(std::span<const DeviceLayer* const> layers) {
  if (layers.empty()) return invalid_argument("no layer to read");
  if (Status status = cuda_status(cudaSetDevice(layers.front()->device()), "selecting a device"); !status) return status;
  int multiprocessors = 0;
  const cudaError_t asked = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, layers.front()->device());
  if (Status status = cuda_status(asked, "asking the device"); !status) return status;
  auto stream = make_stream();
  if (!stream) return stream.status();
  auto clock = DeviceClock::create();
  if (!clock) return clock.status();
  auto sink = allocate<std::uint32_t>(1, "the read probe");
  if (!sink) return sink.status();
  const auto graph = capture(stream->get(), [&](cudaStream_t captured) -> Status {
    for (const DeviceLayer* layer : layers) {
      const DeviceLayer::State& state = layer->state();
      const std::size_t count = state.matrix_bytes() / sizeof(uint4);
      const auto vectors = [](const LayerArray<std::byte>& matrix) { return reinterpret_cast<const uint4*>(matrix.get()); };
      const ReadRanges ranges{{vectors(state.up), vectors(state.down), vectors(state.gate)},
                              {count, count, state.gate.count > 0 ? count : 0}};
      read_ranges<<<static_cast<unsigned>(2 * multiprocessors), 512, 0, captured>>>(ranges, 1, sink->get());
      if (Status status = launched("launching the read probe"); !status) return status;
    }
    return {};
  });
  if (!graph) return graph.status();
  const auto once = [&](cudaStream_t into) { return cuda_status(cudaGraphLaunch(graph->get(), into), "launching a graph"); };
  if (const auto warm_up = clock->seconds(stream->get(), once); !warm_up) return warm_up;
  const auto seconds = clock->seconds(stream->get(), once);
  if (!seconds) return seconds;
  return *seconds / static_cast<double>(layers.size());
}

}  // namespace signsplit::gpu
