// Where plans run, behind one interface: the CPU, or a CUDA device. The commands know nothing else of either.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "signsplit/cpu.hpp"
#include "signsplit/sim/predict.hpp"
#include "signsplit/statistics.hpp"
#include "signsplit/status.hpp"
#include "signsplit/weights.hpp"
#include "tools/vendor.hpp"

namespace signsplit::tools {

/// A layer where its executor reads it.
class LoadedLayer {
 public:
  virtual ~LoadedLayer() = default;
};

/// Copies of one layer that calls take in turn, as decoding goes through the layers of a model.
struct Rotation {
  std::vector<std::unique_ptr<LoadedLayer>> layers;  ///< at least one
  std::size_t next = 0;

  const LoadedLayer& take() { return *layers[next++ % layers.size()]; }
};

/// A plan bound to a layer of an executor.
class ExecutorFfn {
 public:
  virtual ~ExecutorFfn() = default;
  /// y [B, D] = FFN(x [B, D]); active_mask [B, F] or empty.
  virtual Status run(std::span<const float> x, std::span<float> y, std::span<std::uint8_t> active_mask = {}) = 0;
  /// Seconds of one call, weights resident as `residency` says, layers taken from the rotation. What is brought into that
  /// state before is not timed. y is that of the last call.
  virtual Result<double> timed_turn(Rotation& rotation, sim::Residency residency, std::span<const float> x,
                                    std::span<float> y) = 0;
  /// Of the last run() or of the last call of timed_turn().
  [[nodiscard]] virtual const Statistics& statistics() const = 0;
};

class Executor {
 public:
  virtual ~Executor() = default;
  [[nodiscard]] virtual std::string device() const = 0;       ///< as --device takes it: "cpu", "cuda:0"
  [[nodiscard]] virtual std::string description() const = 0;  ///< "avx512, 2 thread(s)"
  [[nodiscard]] virtual std::string isa() const = 0;          ///< "avx512"; of a GPU, "sm_90"
  /// Workers: threads; of a GPU, multiprocessors.
  [[nodiscard]] virtual int workers() const = 0;
  /// The profile that predictions for this executor use unless told: "host", or a GPU's name in lower case with dashes.
  [[nodiscard]] virtual std::string profile() const = 0;

  /// How kernels are launched, for predictions. The CPU launches none.
  [[nodiscard]] virtual sim::LaunchMode launch_mode() const { return sim::LaunchMode::graph; }
  /// The plan as this executor likes it: more parts for more workers. Its bits are those of every executor with that plan.
  [[nodiscard]] virtual Plan suited(const Plan& plan, const Problem& problem) const = 0;
  /// Ok when it runs the plan as it is.
  [[nodiscard]] virtual Status can_run(const Plan& plan, const Problem& problem) const = 0;

  /// Makes a layer ready to run. `weights` are borrowed and must outlive it.
  [[nodiscard]] virtual Result<std::unique_ptr<LoadedLayer>> load(const Weights& weights) = 0;
  /// The same bytes at another place.
  [[nodiscard]] virtual Result<std::unique_ptr<LoadedLayer>> duplicate(const LoadedLayer& layer) = 0;
  /// The layer is borrowed and must outlive the FFN, or be replaced by a rotation's.
  [[nodiscard]] virtual Result<std::unique_ptr<ExecutorFfn>> create(const LoadedLayer& layer, const Plan& plan,
                                                                    index_t batch) = 0;

  /// Seconds to read a layer of the rotation once and do nothing with it: the limit of every case.
  virtual Result<double> timed_read(Rotation& rotation, sim::Residency residency) = 0;
  /// Bytes to rotate through so that what comes round again is in no cache.
  [[nodiscard]] virtual double rotation_bytes() const = 0;
  /// Bytes that layers may still take; infinity when nobody says.
  [[nodiscard]] virtual double memory_left_bytes() const = 0;
  [[nodiscard]] virtual bool huge_pages(const Rotation& rotation) const = 0;

  /// Vendors that multiply weights of this type here.
  [[nodiscard]] virtual std::vector<std::string> vendors(DType dtype) const = 0;
  [[nodiscard]] virtual Result<std::unique_ptr<VendorFfn>> make_vendor(std::string_view name, const Weights& weights,
                                                                       index_t batch) = 0;
  /// Calls of a vendor in one turn, of which the last is timed.
  [[nodiscard]] virtual int calls_per_turn(sim::Residency residency) const = 0;
  /// How many objects of a vendor to rotate through, when `rotation_bytes` are to be read before one comes round again, one call
  /// reads `own_bytes`, and all other cases together read `others_bytes` between two turns of the vendor.
  [[nodiscard]] virtual std::size_t vendor_copies(sim::Residency residency, double rotation_bytes, double own_bytes, double others_bytes) const = 0;
};

/// The CPU. threads 0: all.
[[nodiscard]] std::unique_ptr<Executor> cpu_executor(const cpu::Options& options);

}  // namespace signsplit::tools
