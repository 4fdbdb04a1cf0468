// Fitting a GPU's part of a profile to published or measured points, and saying how well it predicts points left out.
#pragma once

#include <span>
#include <vector>

#include "signsplit/status.hpp"

namespace signsplit::sim {

/// A cache as a chain of steps over one footprint sees it: of a step's bytes the share (1 + (bytes/capacity)^(3·sharpness))^(−1/3)
/// hits, nearly all below the capacity, then falling like a power.
struct CacheModel {
  double Bps = 0;
  double capacity_bytes = 0;
  double sharpness = 1;
};

/// The time of one of many equal steps that follow each other, by the bytes it moves:
///   empty + full · f/(1 + f) + Σ bytes · share_i / Bps_i,   f = (bytes / fill_bytes)^fill_steepness
/// A boundary costs `empty` when a step has work for a few blocks only, and `full` more when all take part.
struct StepModel {
  double empty_s = 0, full_s = 0, fill_bytes = 1, fill_steepness = 1;
  std::vector<CacheModel> caches;  ///< innermost first
  double memory_Bps = 1;
};
[[nodiscard]] double step_time_s(const StepModel& model, double bytes);

/// One measured step.
struct StepPoint {
  double bytes = 0, seconds = 0;
};
/// Robust least squares in the logarithm of the time, from several starts; the result depends on nothing but its arguments.
/// invalid_argument when there are fewer points than parameters, or caches is not 1 or 2.
[[nodiscard]] Result<StepModel> fit_steps(std::span<const StepPoint> points, int caches);

/// Bandwidth by what is in flight, see saturating(): u / (1 + (u/full)^sharpness)^(1/sharpness) with u = inflight / latency_s.
struct SaturationModel {
  double latency_s = 0, full_Bps = 0, sharpness = 2;
};
/// `inflight`: bytes in flight of a GPU; of a CPU the number of cores does as well, then latency_s is cores per bandwidth.
struct SaturationPoint {
  double inflight = 0, Bps = 0;
};
[[nodiscard]] Result<SaturationModel> fit_saturation(std::span<const SaturationPoint> points);
[[nodiscard]] double saturated_Bps(const SaturationModel& model, double inflight);

/// Read bandwidth by footprint: one cache, then memory.
struct FootprintModel {
  CacheModel cache;
  double memory_Bps = 0;
};
struct FootprintPoint {
  double bytes = 0, Bps = 0;
};
[[nodiscard]] Result<FootprintModel> fit_footprint(std::span<const FootprintPoint> points);
[[nodiscard]] double footprint_Bps(const FootprintModel& model, double bytes);

/// Relative errors of predictions against points: median, 95th percentile and worst of |predicted/measured − 1|.
struct ErrorSummary {
  std::size_t points = 0;
  double median = 0, p95 = 0, worst = 0;
  std::size_t worst_index = 0;
};
[[nodiscard]] ErrorSummary summarise_errors(std::span<const double> predicted, std::span<const double> measured);

}  // namespace signsplit::sim
