// Sweeps: who wins, over shapes, batches, weight types, activity and machines.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "signsplit/sim/predict.hpp"

namespace signsplit::sim {

/// Every combination of the axes is a point. An empty axis is an error.
struct SweepRequest {
  std::vector<std::pair<index_t, index_t>> shapes;  ///< (D, F)
  std::vector<index_t> batches{1};
  std::vector<DType> dtypes{DType::bf16};
  std::vector<double> actives{0.1};
  /// Of a plan, in place of the Gaussian model; `actives` then holds the one fraction that points are labelled with.
  std::function<Activity(const Plan&, const Problem&)> activity_of = {};
  Activation activation = {};
  bool gated = false;
  Residency residency = Residency::cold;
  Launch unfused_launch = Launch::one_region;  ///< how the unfused schedule starts its phases: it decides the answer
  LaunchMode launch_mode = LaunchMode::graph;  ///< of GPUs
  int threads = 0;                             ///< 0: each machine's
};

/// The best fused and the best unfused of the schedules that give the same bits, each with default tiles.
struct SweepPoint {
  std::size_t machine = 0;  ///< index into the machines
  index_t d_model = 0, d_ff = 0, batch = 1;
  DType dtype = DType::bf16;
  double active = 1.0;
  std::string_view fused, unfused;  ///< the names of the strategies, to which skip belongs where it was faster
  bool fused_skips = false, unfused_skips = false;
  double fused_s = 0, unfused_s = 0, uncertainty_s = 0;
  Verdict verdict = Verdict::too_close;
};

/// Points in the order machine, dtype, batch, shape, active: the last varies fastest. Uses all cores; a point takes some
/// microseconds. The first machine that cannot predict a dtype ends the sweep with the reason.
[[nodiscard]] Result<std::vector<SweepPoint>> sweep(const SweepRequest& request, std::span<const Machine> machines);

/// One line per point with a heading: machine, d_model, d_ff, batch, dtype, active, fused, unfused, fused_s, unfused_s,
/// ratio (unfused_s / fused_s), uncertainty_s, verdict.
[[nodiscard]] std::string to_csv(std::span<const SweepPoint> points, std::span<const Machine> machines);

}  // namespace signsplit::sim
