// Validation: how wrong the predictions were, beside the naive predictors.
#pragma once

#include <span>
#include <string>
#include <string_view>
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
  double paired_s = 0, paired_ci90_s = 0;  ///< measured beside the group's other points, drift between rounds taken out; 0: it was not
  bool candidate = false;  ///< one that the planner may choose: its regret is over these
  Terms terms = {};  ///< of the prediction: what two schedules share cancels when they are compared. All zero: nothing cancels.
  double memory = 1.0;  ///< of the prediction
};

/// How well a predictor decides fused against unfused, group by group. A group counts when it holds both kinds. It is decidable when its
/// best fused and best unfused times differ by more than the 90 % interval of that difference, √(ci90²_fused + ci90²_unfused) of what both
/// took beside each other; where that is not known, by more than their spread, ½·√((p90 − p10)²_fused + (p90 − p10)²_unfused).
struct DecisionScore {
  double decision_accuracy = 0;  ///< right decisions among those taken on decidable groups, 0..1; 0 when there were none
  double abstain_rate = 0;       ///< share of all groups that it called too close
  double abstain_where_measurable = 0;  ///< the same of the decidable groups alone; 0 when there were none
};

/// The points of one schedule, over all groups.
struct StrategyErrors {
  std::string label;
  int points = 0;
  double mape = 0, bias = 0, worst = 0;  ///< mean |error|, mean error, the error furthest from 0; error: predicted / measured − 1
};

struct ValidationSummary {
  int points = 0;   ///< points with a prediction and a measurement; others are left out
  int groups = 0;   ///< groups with a fused and an unfused point
  int decided = 0;  ///< decidable groups on which the simulator took a decision
  double decision_accuracy = 0, abstain_rate = 0, abstain_where_measurable = 0;
  double mape = 0;             ///< mean |predicted − measured| / measured
  double p95_ape = 0;
  double bias = 0;             ///< mean of predicted / measured − 1
  double gap_median_abs_s = 0; ///< median |predicted gap − measured gap| between best fused and best unfused
  double coverage_90 = 0;      ///< fraction of measurements inside [low, high]
  int pairs = 0, pairs_decided = 0;
  DecisionScore pair_decisions;  ///< as above, between any two schedules of a group: where fused and unfused tie, the harder test
  double regret_mean = 0, regret_worst = 0;  ///< time of the planner's choice over the best measured candidate, − 1
  std::vector<StrategyErrors> strategies;    ///< in the order in which they first occur
  struct Naive {
    DecisionScore roofline, roofline_launch, always_fuse, never_fuse;
    double roofline_mape = 0, roofline_launch_mape = 0;
    DecisionScore roofline_pairs, roofline_launch_pairs;
    double regret_row_fused_skip = 0;  ///< mean regret of who always takes row_fused+skip
  } naive;
};

/// The simulator abstains by the rule of decide(). roofline and roofline_launch decide by their smaller time and abstain
/// on a tie only; always_fuse and never_fuse never abstain.
[[nodiscard]] ValidationSummary summarise(std::span<const ValidationPoint> points, const Machine& machine);

/// One problem of a suite.
struct ValidationCase {
  Problem problem;
  double active = 1.0;
  Residency residency = Residency::cold;
};
/// The problems of a suite, none of a calibration shape: `quick`, `full` (what the project reports), and `development` (what
/// the cost model may be tuned on: it shares no shape with the others). Another name is not_found.
[[nodiscard]] Result<std::vector<ValidationCase>> validation_suite(std::string_view name);

}  // namespace signsplit::sim
