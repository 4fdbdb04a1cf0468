// What the measurements of a report say: who won, by how much, and whether the simulator had it right.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "tools/report_data.hpp"

namespace signsplit::tools {

/// How a decision of the simulator (fuse, or keep unfused) compares with the measurement.
enum class Outcome {
  right,
  wrong,
  abstained,     ///< the simulator called it too close
  not_separable, ///< the measured times differ by less than their spread: nobody can say
  no_data,       ///< not predicted or not measured
};
[[nodiscard]] std::string_view to_string(Outcome outcome) noexcept;

/// One group, looked at. Pointers go into the ValidationGroup; nullptr where there is no such case.
/// `best` leaves out sign_split/ignore, which computes something else.
struct GroupFindings {
  const ValidationGroup* group = nullptr;
  const CaseResult* unfused = nullptr;          ///< plain unfused, the yardstick
  const CaseResult* row_fused = nullptr;        ///< plain row_fused
  const CaseResult* best = nullptr;             ///< fastest schedule of ours
  const CaseResult* best_fused = nullptr;
  const CaseResult* best_unfused = nullptr;
  const CaseResult* best_sign_split = nullptr;
  const CaseResult* best_other = nullptr;       ///< fastest that is not sign_split
  const CaseResult* vendor = nullptr;           ///< fastest vendor baseline
  Outcome outcome = Outcome::no_data;
};
[[nodiscard]] std::vector<GroupFindings> findings(const ValidationRun& run);

/// Least, median and greatest of some ratios; count 0: there were none.
struct RatioRange {
  int count = 0;
  double least = 0, median = 0, greatest = 0;
};
[[nodiscard]] RatioRange ratio_range(std::vector<double> ratios);

/// True for a case that ran.
[[nodiscard]] bool ran(const CaseResult& result) noexcept;
/// The prediction made for the case, or nullptr (vendors have none).
[[nodiscard]] const sim::Prediction* prediction_of(const ValidationGroup& group, const CaseResult& result) noexcept;

/// The lines of a comparison by bars: every schedule that is not sign_split, the vendors, and the fastest case of each
/// sign_split variant; fastest first.
[[nodiscard]] std::vector<const CaseResult*> headline_cases(const ValidationGroup& group);

}  // namespace signsplit::tools
