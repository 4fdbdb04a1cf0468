#include "tools/gpu_executor.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "tools/gpu_profile.hpp"
#include "tools/gpu_vendor.hpp"

namespace signsplit::tools {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;
/// Never use more of the memory that is free.
constexpr double kMemoryShare = 0.6;

class GpuLayer final : public LoadedLayer {
 public:
  explicit GpuLayer(gpu::DeviceLayer layer) : layer_(std::move(layer)) {}
  [[nodiscard]] const gpu::DeviceLayer& layer() const { return layer_; }

 private:
  gpu::DeviceLayer layer_;
};

const gpu::DeviceLayer& layer_of(const LoadedLayer& layer) { return static_cast<const GpuLayer&>(layer).layer(); }

/// The layers of a rotation in the order in which a chain takes them.
std::vector<const gpu::DeviceLayer*> chain_of(const Rotation& rotation) {
  std::vector<const gpu::DeviceLayer*> layers;
  for (const auto& layer : rotation.layers) layers.push_back(&layer_of(*layer));
  return layers;
}

/// A warm rotation has one layer; its chain is that layer again and again.
constexpr std::size_t kWarmCalls = 32;
std::vector<const gpu::DeviceLayer*> chain_of(const Rotation& rotation, sim::Residency residency) {
  if (residency == sim::Residency::cold) return chain_of(rotation);
  return std::vector<const gpu::DeviceLayer*>(kWarmCalls, &layer_of(*rotation.layers.front()));
}

class GpuFfn final : public ExecutorFfn {
 public:
  GpuFfn(gpu::Ffn ffn, bool chained) : ffn_(std::move(ffn)), chained_(chained) {}

  Status run(std::span<const float> x, std::span<float> y, std::span<std::uint8_t> active_mask) override {
    return ffn_.run(x, y, active_mask);
  }

  /// Chained, the first chain of an Ffn makes its graph: it goes before and is not timed.
  Result<double> timed_turn(Rotation& rotation, sim::Residency residency, std::span<const float> x,
                            std::span<float> y) override {
    if (chained_) {
      const auto layers = chain_of(rotation, residency);
      if (!std::exchange(warm_, true)) {
        if (const auto first = ffn_.run_chain(layers, x, y); !first) return first;
      }
      return ffn_.run_chain(layers, x, y);
    }
    // Warm: the other cases have pushed the layer out of the L2, and a new graph is uploaded by its first launch.
    const int calls = residency == sim::Residency::cold ? 1 : 3;
    if (Status status = ffn_.rebind(layer_of(rotation.take())); !status.ok()) return status;
    for (int call = 0; call < calls; ++call) {
      if (Status status = ffn_.run(x, y); !status.ok()) return status;
    }
    return ffn_.report().device_s;
  }
  [[nodiscard]] const Statistics& statistics() const override { return ffn_.report().statistics; }

 private:
  gpu::Ffn ffn_;
  bool chained_;
  bool warm_ = false;
};

class GpuExecutor final : public Executor {
 public:
  GpuExecutor(const GpuSettings& settings, gpu::Device device) : settings_(settings), device_(std::move(device)) {}

  [[nodiscard]] std::string device() const override { return fmt::format("cuda:{}", device_.index); }
  [[nodiscard]] std::string description() const override {
    return fmt::format("{}, {}, {} launches", device_.name, isa(), gpu::to_string(settings_.options.launch));
  }
  [[nodiscard]] std::string isa() const override {
    return fmt::format("sm_{}{}", device_.compute_major, device_.compute_minor);
  }
  [[nodiscard]] int workers() const override { return device_.multiprocessors; }

  [[nodiscard]] std::string profile() const override { return profile_name(device_); }
  [[nodiscard]] sim::LaunchMode launch_mode() const override {
    return sim::parse_launch_mode(gpu::to_string(settings_.options.launch)).value_or(sim::LaunchMode::graph);
  }

  [[nodiscard]] Plan suited(const Plan& plan, const Problem& problem) const override {
    sim::Machine machine;  // no more of one is asked for
    machine.kind = "gpu";
    machine.units = device_.multiprocessors;
    const Plan wanted = sim::plan_on(machine, problem, plan);
    // The state of a tile grows with the batch, and hidden tiles change no bit. What fits with none keeps its reason.
    Plan fitting = wanted;
    while (fitting.hidden_tile > 32 && !can_run(fitting, problem).ok()) fitting.hidden_tile /= 2;
    return can_run(fitting, problem).ok() ? fitting : wanted;
  }
  [[nodiscard]] Status can_run(const Plan& plan, const Problem& problem) const override {
    return gpu::can_run(plan, problem, settings_.options);
  }

  [[nodiscard]] Result<std::unique_ptr<LoadedLayer>> load(const Weights& weights) override {
    auto layer = gpu::DeviceLayer::upload(weights, device_.index);
    if (!layer) return layer.status();
    return std::unique_ptr<LoadedLayer>(std::make_unique<GpuLayer>(std::move(*layer)));
  }
  [[nodiscard]] Result<std::unique_ptr<LoadedLayer>> duplicate(const LoadedLayer& layer) override {
    auto copy = layer_of(layer).clone();
    if (!copy) return copy.status();
    return std::unique_ptr<LoadedLayer>(std::make_unique<GpuLayer>(std::move(*copy)));
  }
  [[nodiscard]] Result<std::unique_ptr<ExecutorFfn>> create(const LoadedLayer& layer, const Plan& plan,
                                                            index_t batch) override {
    auto ffn = gpu::Ffn::create(layer_of(layer), plan, batch, settings_.options);
    if (!ffn) return ffn.status();
    return std::unique_ptr<ExecutorFfn>(std::make_unique<GpuFfn>(std::move(*ffn), settings_.chained));
  }

  Result<double> timed_read(Rotation& rotation, sim::Residency residency) override {
    return gpu::time_read(chain_of(rotation, residency));
  }

  /// Four times the L2, and no less than 240 MiB.
  [[nodiscard]] double rotation_bytes() const override {
    return std::max(240 * kMiB, 4.0 * static_cast<double>(device_.l2_bytes));
  }
  [[nodiscard]] double memory_left_bytes() const override {
    const auto bytes = gpu::free_bytes(device_.index);
    return bytes ? kMemoryShare * static_cast<double>(*bytes) : 0;
  }
  [[nodiscard]] bool huge_pages(const Rotation&) const override { return false; }

  [[nodiscard]] std::vector<std::string> vendors(DType) const override { return gpu_vendor_names(); }
  [[nodiscard]] Result<std::unique_ptr<VendorFfn>> make_vendor(std::string_view name, const Weights& weights,
                                                               index_t batch) override {
    return make_gpu_vendor(name, weights, batch, device_.index, rotation_bytes());
  }
  /// A vendor's object rotates by itself, inside the one graph that a turn launches.
  [[nodiscard]] int calls_per_turn(sim::Residency) const override { return 1; }
  [[nodiscard]] std::size_t vendor_copies(sim::Residency, double, double, double) const override { return 1; }

 private:
  GpuSettings settings_;
  gpu::Device device_;
};

}  // namespace

Result<std::unique_ptr<Executor>> gpu_executor(const GpuSettings& settings) {
  auto device = gpu::find_device(settings.options.device);
  if (!device) return device.status();
  return std::unique_ptr<Executor>(std::make_unique<GpuExecutor>(settings, std::move(*device)));
}

}  // namespace signsplit::tools
