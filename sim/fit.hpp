// Fitting: the cost model turned round. Given what a trial took, which value of one parameter predicts just that?
#pragma once

#include <string>
#include <vector>

#include "signsplit/sim/calibrate.hpp"

namespace signsplit::sim {

/// A trial, and once it was run a result per plan; none where it could not run.
struct Trial {
  std::string what;      ///< for the profile's `source`
  TrialRequest request;
  std::vector<TrialResult> results;
};

/// One plan of a trial that was run.
struct TrialCase {
  const Trial& trial;
  std::size_t plan = 0;
  [[nodiscard]] const TrialResult& result() const { return trial.results[plan]; }
};

/// What predict() says of a case, with the activity that it had. Negative when it cannot be predicted.
[[nodiscard]] double predicted_s(const TrialCase& one, const Machine& machine, const std::string& isa);

/// Finds the rate with which the prediction of the case equals its median, between 1e7 elements per second and one element
/// per FMA of the peak; writes it into the profile as `fitted`, with an interval from the trial's spread.
void fit_rate(Machine& machine, const std::string& isa, const std::string& name, const TrialCase& one);

/// The same for a correction of the model in [low, high].
void fit_model(Machine& machine, const std::string& isa, const std::string& name, const TrialCase& one, double low, double high);

/// Writes a rate that follows from others.
void set_rate(Machine& machine, const std::string& isa, const std::string& name, const Quantity& per_s);

/// Fits everything that the probes of calibrate_host can tell, from the trials in the order of trial_requests().
void fit_all(Machine& machine, const std::string& isa, const std::vector<Trial>& trials);

/// The trials that calibration runs, and what each is for.
[[nodiscard]] std::vector<Trial> trial_requests(int threads, bool quick);

}  // namespace signsplit::sim
