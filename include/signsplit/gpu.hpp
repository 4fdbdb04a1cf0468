// The GPU executor's public interface. It is the same in builds with and without CUDA; without, every call answers
// `unsupported` and says so.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "signsplit/plan.hpp"
#include "signsplit/statistics.hpp"
#include "signsplit/status.hpp"
#include "signsplit/weights.hpp"

namespace signsplit::gpu {

/// True when the library was built with the CUDA toolkit.
[[nodiscard]] bool built_with_cuda() noexcept;

struct Device {
  int index = 0;
  std::string name;
  int compute_major = 0, compute_minor = 0;
  int multiprocessors = 0;
  std::size_t memory_bytes = 0;
  std::size_t l2_bytes = 0;
  std::size_t shared_bytes_per_block = 0;  ///< at most, after opting in
  double clock_hz = 0;                     ///< of the multiprocessors, the highest
  double memory_peak_Bps = 0;              ///< memory clock times bus width; 0 when the driver does not tell
  int driver_version = 0;                  ///< of CUDA, as the driver supports it: 13000 is 13.0
  bool cooperative_launch = false;
};

/// The devices of this machine; or why there are none: no CUDA in this build, no driver, no device.
[[nodiscard]] Result<std::vector<Device>> devices();
/// The device by its number, or why it cannot be used.
[[nodiscard]] Result<Device> find_device(int index);

/// How the kernels of a plan are started: one for the fused strategies, two for unfused. Never changes a bit. The kernels
/// end in a barrier of all their blocks: only `cooperative` is safe while another kernel of any stream or process wants
/// the same device; with the others each could wait for multiprocessors that the other holds.
enum class Launch : std::uint8_t {
  stream,        ///< launched one after the other
  graph,         ///< nodes of one graph
  programmatic,  ///< graph, and a kernel starts while the one before it drains (programmatic dependent launch, sm_90)
  cooperative,   ///< graph of cooperative launches: a kernel starts when all its blocks fit
};
[[nodiscard]] std::string_view to_string(Launch launch) noexcept;
[[nodiscard]] std::optional<Launch> parse_launch(std::string_view text) noexcept;

struct Options {
  int device = 0;
  Launch launch = Launch::cooperative;  ///< whatever Plan::launch says: that is about CPUs
  int stages = 0;                       ///< copies of weights in flight per block; 0: as many as fit, else at least 2
  bool evict_first = true;              ///< weights are marked to leave the L2 first
};

/// Ok when the plan is valid for the problem and the device can run it; else the rule in words.
[[nodiscard]] Status can_run(const Plan& plan, const Problem& problem, const Options& options = {});

/// Bytes of device memory that one Ffn needs beside the weights. Meaningful where can_run() says ok; 0 elsewhere.
[[nodiscard]] std::size_t workspace_bytes(const Plan& plan, const Problem& problem, const Options& options = {});

/// A layer in device memory, in the packed form of Weights. Move-only.
class DeviceLayer {
 public:
  /// The weights are copied. They must outlive the layer all the same: a certified plan takes its certificate from them.
  [[nodiscard]] static Result<DeviceLayer> upload(const Weights& weights, int device = 0);
  /// A copy in device memory of its own.
  [[nodiscard]] Result<DeviceLayer> clone() const;
  DeviceLayer(DeviceLayer&&) noexcept;
  DeviceLayer& operator=(DeviceLayer&&) noexcept;
  ~DeviceLayer();

  [[nodiscard]] Problem problem(index_t batch = 1) const noexcept;
  [[nodiscard]] int device() const noexcept;
  [[nodiscard]] std::size_t bytes() const noexcept;  ///< of the matrices

  struct State;
  [[nodiscard]] const State& state() const noexcept { return *state_; }

 private:
  explicit DeviceLayer(State* state) noexcept : state_(state) {}
  State* state_ = nullptr;
};

/// What a run reports beside y. The counters are those of the CPU's report: bytes asked for, not bytes that a cache saved.
struct Report {
  Statistics statistics;
  Launch launch = Launch::cooperative;
  double device_s = 0;  ///< of the launches alone, by the device's clock: x and y are on the device already
};

/// An FFN bound to a device's weights, a plan and a workspace of its own. The weights are borrowed and must outlive it.
class Ffn {
 public:
  [[nodiscard]] static Result<Ffn> create(const DeviceLayer& layer, const Plan& plan, index_t batch = 1,
                                          const Options& options = {});
  Ffn(Ffn&&) noexcept;
  Ffn& operator=(Ffn&&) noexcept;
  ~Ffn();

  /// y [B, D] = FFN(x [B, D]), both in host memory: copied there and back, and waited for. The same bits as cpu::Ffn
  /// with the same plan. `active_mask`, unless empty, receives [B, F]: 1 where the unit is open.
  Status run(std::span<const float> x, std::span<float> y, std::span<std::uint8_t> active_mask = {});

  /// Goes on with another layer of the same problem on the same device.
  Status rebind(const DeviceLayer& layer);

  /// Seconds of one call in a chain: the layers' calls one behind the other, in one graph (`stream`: in one stream), all
  /// with this x, without a wait between them. y is that of the last call, and the report's device_s the time returned.
  Result<double> run_chain(std::span<const DeviceLayer* const> layers, std::span<const float> x, std::span<float> y);

  /// Of the last run, or of the last call of the last chain.
  [[nodiscard]] const Report& report() const noexcept;
  [[nodiscard]] const Plan& plan() const noexcept;
  [[nodiscard]] const Problem& problem() const noexcept;

 private:
  struct State;
  explicit Ffn(State* state) noexcept : state_(state) {}
  State* state_ = nullptr;
};

/// Seconds to read the layers' matrices once, a launch per layer, with nothing computed: the limit of every plan.
[[nodiscard]] Result<double> time_read(std::span<const DeviceLayer* const> layers);
/// Bytes of device memory that are free.
[[nodiscard]] Result<std::size_t> free_bytes(int device = 0);

/// What calibration measures of a device. Every time is a median.
struct DeviceFigures {
  Device device;
  double copy_Bps = 0;  ///< device to device, bytes read and written
  double read_Bps = 0;  ///< reading alone, the best of the curve below
  double read_per_multiprocessor_Bps = 0;  ///< by one block alone, many bytes in flight
  std::vector<std::pair<double, double>> read_by_inflight_bytes;   ///< {bytes in flight per multiprocessor, B/s}
  std::vector<std::pair<double, double>> read_by_footprint_bytes;  ///< {bytes read over and over, B/s}
  double launch_stream_s = 0, launch_graph_s = 0, launch_programmatic_s = 0, launch_cooperative_s = 0;  ///< per empty kernel
  double grid_barrier_s = 0;    ///< of cooperative groups
  double atomic_barrier_s = 0;  ///< written by hand: one counter in device memory
  double memory_latency_s = 0;  ///< one dependent load from beyond the L2
  double first_byte_s = 0;      ///< what one cold load per thread adds to an empty kernel
};

/// Called before each probe: index of total, and what it measures.
using Progress = std::function<void(int index, int total, const std::string& what)>;

/// Under ten seconds. quick: half the repetitions.
[[nodiscard]] Result<DeviceFigures> measure_device(int device, bool quick = false, const Progress& progress = {});

}  // namespace signsplit::gpu
