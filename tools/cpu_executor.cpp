// The CPU behind the executor interface.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "tools/executor.hpp"
#include "tools/host_memory.hpp"
#include "tools/read_probe.hpp"

namespace signsplit::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kMiB = 1024.0 * 1024.0;
/// Never use more of the memory that is free.
constexpr double kMemoryShare = 0.6;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// The last one is timed. Before it, cold: one, on the layer before, because in decoding the call before was the
/// same code with the same workspace. Warm: two, because the other cases have pushed the layer out of the caches.
int calls_of_a_turn(sim::Residency residency) { return residency == sim::Residency::cold ? 2 : 3; }

/// Borrowed weights, or a copy of its own.
class CpuLayer final : public LoadedLayer {
 public:
  explicit CpuLayer(const Weights& weights) : weights_(&weights) {}
  explicit CpuLayer(Weights&& copy) : copy_(std::move(copy)), weights_(&*copy_) {}
  [[nodiscard]] const Weights& weights() const { return *weights_; }

 private:
  std::optional<Weights> copy_;
  const Weights* weights_;
};

const Weights& weights_of(const LoadedLayer& layer) { return static_cast<const CpuLayer&>(layer).weights(); }

/// The packed matrices of a layer.
std::vector<std::span<const std::byte>> matrices(const Weights& weights) {
  const auto bytes = static_cast<std::size_t>(weights.d_ff() * weights.row_bytes());
  std::vector<std::span<const std::byte>> spans;
  for (const std::byte* matrix : {weights.up(), weights.down(), weights.gate()}) {
    if (matrix != nullptr) spans.emplace_back(matrix, bytes);  // no gate, or a first matrix that was given up
  }
  return spans;
}

class CpuFfn final : public ExecutorFfn {
 public:
  explicit CpuFfn(cpu::Ffn ffn) : ffn_(std::move(ffn)) {}

  Status run(std::span<const float> x, std::span<float> y, std::span<std::uint8_t> active_mask) override {
    return ffn_.run(x, y, active_mask);
  }
  Result<double> timed_turn(Rotation& rotation, sim::Residency residency, std::span<const float> x,
                            std::span<float> y) override {
    double seconds = 0;
    for (int call = 0; call < calls_of_a_turn(residency); ++call) {
      // The output is poisoned before every call, so that what is checked after it comes from that call.
      std::fill(y.begin(), y.end(), std::numeric_limits<float>::quiet_NaN());
      if (Status status = ffn_.rebind(weights_of(rotation.take())); !status.ok()) return status;
      const auto start = Clock::now();
      Status status = ffn_.run(x, y);
      seconds = seconds_since(start);
      if (!status.ok()) return status;
    }
    return seconds;
  }
  [[nodiscard]] const Statistics& statistics() const override { return ffn_.report().statistics; }

 private:
  cpu::Ffn ffn_;
};

class CpuExecutor final : public Executor {
 public:
  explicit CpuExecutor(const cpu::Options& options) : options_(options) {
    if (options_.threads <= 0) options_.threads = omp_get_max_threads();
  }

  [[nodiscard]] std::string device() const override { return "cpu"; }
  [[nodiscard]] std::string description() const override { return fmt::format("{}, {} thread(s)", isa(), workers()); }
  [[nodiscard]] std::string isa() const override {
    const Result<cpu::Isa> isa = cpu::select_isa(options_.isa);
    return isa ? std::string(cpu::to_string(*isa)) : std::string();
  }
  [[nodiscard]] int workers() const override { return options_.threads; }
  [[nodiscard]] std::string profile() const override { return "host"; }
  [[nodiscard]] Plan suited(const Plan& plan, const Problem&) const override { return plan; }
  [[nodiscard]] Status can_run(const Plan& plan, const Problem& problem) const override { return cpu::can_run(plan, problem, options_); }

  [[nodiscard]] Result<std::unique_ptr<LoadedLayer>> load(const Weights& weights) override {
    return std::unique_ptr<LoadedLayer>(std::make_unique<CpuLayer>(weights));
  }
  [[nodiscard]] Result<std::unique_ptr<LoadedLayer>> duplicate(const LoadedLayer& layer) override {
    auto copy = weights_of(layer).clone();
    if (!copy) return copy.status();
    return std::unique_ptr<LoadedLayer>(std::make_unique<CpuLayer>(std::move(*copy)));
  }
  [[nodiscard]] Result<std::unique_ptr<ExecutorFfn>> create(const LoadedLayer& layer, const Plan& plan,
                                                            index_t batch) override {
    auto ffn = cpu::Ffn::create(weights_of(layer), plan, batch, options_);
    if (!ffn) return ffn.status();
    return std::unique_ptr<ExecutorFfn>(std::make_unique<CpuFfn>(std::move(*ffn)));
  }

  Result<double> timed_read(Rotation& rotation, sim::Residency residency) override {
    double seconds = 0;
    for (int call = 0; call < calls_of_a_turn(residency); ++call) {
      const auto ranges = matrices(weights_of(rotation.take()));
      const auto start = Clock::now();
      read_all(ranges, workers());
      seconds = seconds_since(start);
    }
    return seconds;
  }

  /// Twice the last level, since a case that skips rows may read little more than half of a layer; sysfs of a shared
  /// machine reports the whole machine's cache, of which a guest uses a part, hence the upper limit.
  [[nodiscard]] double rotation_bytes() const override {
    double last_level = 0;
    for (const sim::CacheLevel& level : sim::detect_host().levels) {
      last_level = std::max(last_level, level.capacity_bytes.value);
    }
    return std::max(256 * kMiB, std::min(2 * last_level, 1536 * kMiB));
  }
  [[nodiscard]] double memory_left_bytes() const override {
    const std::size_t available = available_memory_bytes();
    return available == 0 ? std::numeric_limits<double>::infinity() : kMemoryShare * static_cast<double>(available);
  }
  [[nodiscard]] bool huge_pages(const Rotation& rotation) const override {
    std::vector<std::span<const std::byte>> all;
    for (const auto& layer : rotation.layers) {
      for (const auto& matrix : matrices(weights_of(*layer))) all.push_back(matrix);
    }
    return huge_page_fraction(all) > 0.5;
  }

  [[nodiscard]] std::vector<std::string> vendors(DType dtype) const override { return vendor_names(dtype); }
  [[nodiscard]] Result<std::unique_ptr<VendorFfn>> make_vendor(std::string_view name, const Weights& weights,
                                                               index_t batch) override {
    return tools::make_vendor(name, weights, batch, workers());
  }
  [[nodiscard]] int calls_per_turn(sim::Residency residency) const override { return calls_of_a_turn(residency); }
  /// Few will do, since the other cases read in between.
  [[nodiscard]] std::size_t vendor_copies(sim::Residency residency, double rotation_bytes, double own_bytes,
                                          double others_bytes) const override {
    if (residency == sim::Residency::warm) return 1;
    const double calls = calls_of_a_turn(residency);
    return static_cast<std::size_t>(calls * std::max(1.0, std::ceil(rotation_bytes / (calls * (own_bytes + others_bytes)))));
  }

 private:
  cpu::Options options_;
};

}  // namespace

std::unique_ptr<Executor> cpu_executor(const cpu::Options& options) { return std::make_unique<CpuExecutor>(options); }

}  // namespace signsplit::tools
