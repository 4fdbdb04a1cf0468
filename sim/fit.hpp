// Fitting: the cost model turned round. Given what a trial took, which value of one parameter predicts just that?
#pragma once

#include <string>
#include <vector>

#include "signsplit/sim/calibrate.hpp"

namespace signsplit::sim {

/// A trial that has been run.
struct Trial {
  std::string what;      ///< for the profile's `source`
  TrialRequest request;
  TrialResult result;
};

/// What predict() says of a trial, with the activity that the trial had. Negative when it cannot be predicted.
[[nodiscard]] double predicted_s(const Trial& trial, const Machine& machine, const std::string& isa);

/// Finds the rate with which the prediction of the trial equals its median, between 1e7 elements per second and one element
/// per FMA of the peak; writes it into the profile as `fitted`, with an interval from the trial's spread.
void fit_rate(Machine& machine, const std::string& isa, const std::string& name, const Trial& trial);

/// The same for a correction of the model in [low, high].
void fit_model(Machine& machine, const std::string& isa, const std::string& name, const Trial& trial, double low, double high);

/// Writes a rate that follows from others.
void set_rate(Machine& machine, const std::string& isa, const std::string& name, const Quantity& per_s);

/// Fits everything that the probes of calibrate_host can tell, from the trials in the order of trial_requests().
void fit_all(Machine& machine, const std::string& isa, const std::vector<Trial>& trials);

/// The trials that calibration runs, and what each is for.
[[nodiscard]] std::vector<Trial> trial_requests(int threads, bool quick);

}  // namespace signsplit::sim
