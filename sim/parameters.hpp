// The numbers of a profile that predictions depend on, each with a way to change it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "signsplit/sim/predict.hpp"

namespace signsplit::sim {

struct Parameter {
  std::string name;
  std::string unit;  ///< SI base unit
  double value = 0;  ///< as the scenario's prediction uses it
  std::function<void(Machine&, double factor)> scale;  ///< multiplies it in a fresh copy of the machine
};

/// Everything that `predict` may look up for the scenario, in the order of the profile: bandwidth, costs of threads, the
/// rates of the scenario's weight type and instruction set, the corrections of the model.
[[nodiscard]] std::vector<Parameter> parameters_of(const Machine& machine, const Scenario& scenario);

}  // namespace signsplit::sim
