// Fitting: the cost model turned round. Given what the trials took, which parameters predict just that?
#pragma once

#include <string>
#include <vector>

#include "signsplit/sim/as_of_now.hpp"
#include "signsplit/sim/calibrate.hpp"

namespace signsplit::sim {

/// A trial, and once it was run a result per plan; none where it could not run.
struct Trial {
  std::string what;   ///< for the progress; trials of one subject follow each other and count as one probe
  TrialRequest request;
  std::vector<TrialResult> results = {};
  Reading reading = {};  ///< the machine as it was meanwhile
};

/// What predict() says of a plan of a trial, with the activity that it had, on the machine as it was. Negative when it cannot be
/// predicted.
[[nodiscard]] double predicted_s(const Trial& trial, std::size_t plan, const Machine& machine, const std::string& isa);

/// Writes a rate into the profile, in place of the one that it has.
void set_rate(Machine& machine, const std::string& isa, const std::string& name, const Quantity& per_s);

/// Fits the executor's rates and the model's corrections to all trials at once: least squares of log(predicted / measured) with a
/// robust loss, each parameter held by a prior (what is assumed where a profile says nothing, within a factor or so). So a
/// parameter that the trials say little about stays near what is assumed and never runs to a bound. Trials without results count
/// for nothing. Then the interval widths.
void fit_all(Machine& machine, const std::string& isa, const std::vector<Trial>& trials);

/// The trials that calibration runs. About 20 s of measuring, half of it quick.
[[nodiscard]] std::vector<Trial> trial_requests(int threads, bool quick);

}  // namespace signsplit::sim
