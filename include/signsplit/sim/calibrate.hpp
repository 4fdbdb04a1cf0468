// Calibration: measures this machine and writes what it found into a profile.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "signsplit/plan.hpp"
#include "signsplit/sim/machine.hpp"
#include "signsplit/sim/predict.hpp"

namespace signsplit::sim {

struct TrialResult {
  double median_s = 0, p10_s = 0, p90_s = 0;
  Statistics statistics;
  double paired_s = 0, paired_ci90_s = 0;  ///< median beside the other plans of the trial, without what slowed a whole round; 0: not known
};

/// Runs plans on one synthetic layer, in turns (A, B, C, A, B, C, ...), and returns what calls of each took, in the same order.
/// unsupported: the executor has no such weights; the probe is left out. The simulator may not include an executor, so
/// whoever calibrates hands one in.
struct TrialRequest {
  Problem problem;
  std::vector<Plan> plans;
  double active = 1.0;
  Residency residency = Residency::warm;
  int threads = 1;
  double budget_s = 0.5;  ///< for all plans together
  std::function<bool()> still = {};  ///< asked between calls: a call counts when the machine was what it is just before and just after it
  std::function<bool(const std::vector<TrialResult>&)> again = {};  ///< asked of what it would return: whether to time all once more, on the same layer
};
using TrialRunner = std::function<Result<std::vector<TrialResult>>(const TrialRequest&)>;

/// Called before each probe: index of total, and what it measures.
using Progress = std::function<void(int index, int total, const std::string& what)>;

struct CalibrateOptions {
  int threads = 0;         ///< 0: all cores
  std::string isa;         ///< the instruction set that `trial` runs with
  bool quick = false;      ///< half the repetitions
  TrialRunner trial;       ///< empty: kernel rates are derived from the FMA rate and marked assumed
  Progress progress;
};

/// At most 15 probes, at most 60 s: read bandwidth against working set and threads, barrier, fork-join, FMA rate, and the
/// executor's kernels on layers of shapes that validation never uses (calibration_shapes()): in the first caches, in the
/// last one and in main memory, of every weight type. A probe whose spread is wide is repeated. Every number carries its spread.
[[nodiscard]] Result<Machine> calibrate_host(const CalibrateOptions& options);

/// D×F of every layer that calibration runs. Validation refuses these.
[[nodiscard]] std::vector<std::pair<index_t, index_t>> calibration_shapes();

}  // namespace signsplit::sim
