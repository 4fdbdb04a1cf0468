// Explanations: a decision between two schedules taken apart, and what would have to be different to turn it round.
#pragma once

#include <string>
#include <vector>

#include "signsplit/sim/predict.hpp"

namespace signsplit::sim {

/// A number of the machine or of the data at which two schedules would take equally long.
struct Flip {
  std::string parameter;  ///< "read_bandwidth", "barrier_s", "rates.up_bf16", "model.first_byte_s", "active", ...
  std::string unit;       ///< SI base unit, as in profiles
  double now = 0;         ///< today's value; of a curve or a list by threads: the value that the prediction uses
  double value = 0;       ///< where the gap is zero; the crossing nearest to `now` on a logarithmic scale
  double factor = 0;      ///< value / now; a curve is scaled as a whole
};

struct Explanation {
  LabelledPrediction fused, unfused;
  Decision decision;
  std::vector<Flip> flips;              ///< nearest first
  std::vector<std::string> no_flip;     ///< parameters that leave the order as it is between 1/1024 and 1024 times their value
  std::vector<std::string> unused;      ///< parameters that the gap does not depend on
};

/// Compares a fused with an unfused scenario of the same problem on a machine. The flip of `active` changes the fraction
/// of active units of both and lets the model derive everything that follows from it; it is looked for in (0, 1], and not at
/// all where a measured activity decides otherwise than the model of the same fraction.
/// Parameters whose value is zero have no factor and are not looked at. Errors are those of predict().
[[nodiscard]] Result<Explanation> explain(const Scenario& fused, const Scenario& unfused, const Machine& machine);

/// JSON text: winner, loser, gap_s, uncertainty_s, verdict, fused, unfused, terms_fused{}, terms_unfused{}, terms_gap{}
/// (unfused − fused), flips[], no_flip[], unused[].
[[nodiscard]] std::string to_json(const Explanation& explanation);

}  // namespace signsplit::sim
