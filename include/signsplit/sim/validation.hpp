// Validation: how wrong the predictions were, beside the naive predictors.
#pragma once

#include <string>
#include <vector>

#include "signsplit/sim/predict.hpp"

namespace signsplit::sim {

/// One prediction, and the measurement made after it was written down.
struct ValidationPoint {
  std::string group;   ///< points of one group are alternatives for the same problem: shape, dtype, activity, residency
  std::string label;   ///< the schedule
  bool fused = true;
  double predicted_s = 0, low_s = 0, high_s = 0;
  double roofline_s = 0, roofline_launch_s = 0;
  double measured_s = 0, measured_p10_s = 0, measured_p90_s = 0;
};

/// How well a predictor decides fused against unfused, group by group. A group counts as decidable when the measured
/// best fused and best unfused times differ by more than their spread.
struct DecisionScore {
  double decision_accuracy = 0;  ///< right decisions among those taken, 0..1
  double abstain_rate = 0;       ///< groups it called too close
};

struct ValidationSummary {
  int points = 0, groups = 0, decided = 0;
  double decision_accuracy = 0, abstain_rate = 0;
  double mape = 0;             ///< mean |predicted − measured| / measured
  double p95_ape = 0;
  double gap_median_abs_s = 0; ///< median |predicted gap − measured gap| between best fused and best unfused
  double coverage_90 = 0;      ///< fraction of measurements inside [low, high]
  struct Naive {
    DecisionScore roofline, roofline_launch, always_fuse, never_fuse;
    double roofline_mape = 0, roofline_launch_mape = 0;
  } naive;
};

[[nodiscard]] ValidationSummary summarise(std::span<const ValidationPoint> points, const Machine& machine);

/// The problems of a suite ("quick" or "full"), none of a calibration shape.
struct ValidationCase {
  Problem problem;
  double active = 1.0;
  Residency residency = Residency::cold;
};
[[nodiscard]] Result<std::vector<ValidationCase>> validation_suite(std::string_view name);

}  // namespace signsplit::sim
