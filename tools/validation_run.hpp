// Predict, write the predictions down, only then measure, and score. Shared by `validate` and `report`.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "signsplit/sim/validation.hpp"
#include "tools/json_output.hpp"
#include "tools/measure.hpp"
#include "tools/measurements.hpp"
#include "tools/trial.hpp"
#include "tools/validation_point.hpp"

namespace signsplit::tools {

/// One case of a suite: alternatives for one problem, predicted and measured.
struct ValidationGroup {
  std::string name;                ///< "2048x8192 bf16 relu, batch 1, active 10 %, cold"
  sim::ValidationCase request;
  std::vector<Plan> plans;         ///< predicted, in this order
  std::vector<sim::LabelledPrediction> predictions;  ///< of the plans, same order
  std::optional<sim::Decision> decision;             ///< what the simulator decided beforehand
  MeasureResult measured;          ///< of the plans in the same order, then the vendor baselines
  sim::Reading reading = {};       ///< the machine just before the measurement; empty without a probe
  std::vector<sim::LabelledPrediction> predictions_now = {};  ///< of the same plans on the machine as it was then
  int repeats = 0;                 ///< measurements thrown away because the machine was another one in half of their turns
};

/// How steady the machine was while it was measured.
struct Steadiness {
  int repeated = 0;           ///< measurements thrown away and made again
  int mostly_unsteady = 0;    ///< problems whose last measurement still lost more than half of its turns
  double turns_left_out = 0;  ///< share of the turns that do not count, 0..1, mean over the problems
};
[[nodiscard]] Steadiness steadiness_of(std::span<const MeasuredGroup> groups);

struct ValidationRun {
  std::vector<sim::ValidationPoint> points;  ///< every plan that was predicted and ran; with a probe, predicted as of then
  sim::ValidationSummary summary;
  sim::ValidationSummary profile_summary;    ///< of the predictions by the profile alone; without a probe the same
  sim::ValidationSummary same_run_summary;   ///< with main memory's bandwidth as measured beside the schedules: not a prediction
  sim::ValidationSummary all_turns_summary;  ///< against the medians of all turns, also of those during which the machine was another one
  Steadiness steadiness;
  std::vector<ValidationGroup> groups;
  std::size_t pending = 0;                   ///< groups that the time limit left for another run: no points, no summary yet
  std::vector<std::string> problems;         ///< cases that could not run, and why, one line each
};

struct ValidationOptions {
  MeasureOptions measure;                    ///< residency is set per case; budget_s is per case
  std::string suite = "quick";               ///< its name, for the file of measurements
  std::filesystem::path keep = {};           ///< measurements go here group by group, and those already there are not repeated
  double limit_s = 0;                        ///< with keep: no group is begun after so many seconds; 0: no limit
  MachineProbe probe = {};                   ///< empty: the profile alone counts
  std::vector<std::string> vendors = {};     ///< vendor baselines measured beside the plans ("onednn"): no predictions
};

/// What is being done, with the fraction 0..1 of the whole.
using ValidationProgress = std::function<void(double fraction, const std::string& what)>;

/// Predicts every schedule of every case and writes the predictions to `predictions_file` (JSON, with the machine profile
/// and the time), synced to disk, before the first measurement starts. With a probe, when a case is set up and before its first timed
/// call, the machine is read, the case is predicted anew for the machine as it is now (sim::as_of_now), and this prediction is added
/// to the file. Turns between which the machine is another one do not count, and when they are more than half of all, prediction and
/// measurement are made again, twice at most. A case or schedule that cannot run is listed in
/// `problems` and the others go on; an error only when nothing could be predicted, written or measured. A run that goes on
/// with measurements kept before does not write predictions again: they must be those in the file.
[[nodiscard]] Result<ValidationRun> run_validation(std::span<const sim::ValidationCase> cases, const sim::Machine& machine,
                                                   const std::filesystem::path& predictions_file,
                                                   const ValidationOptions& options,
                                                   const ValidationProgress& progress = {});

/// summary{} with the keys of `validate --json`.
[[nodiscard]] Json summary_json(const sim::ValidationSummary& summary);
/// points[] and summary{} with the keys of `validate --json`.
[[nodiscard]] Json validation_json(const ValidationRun& run);

}  // namespace signsplit::tools
