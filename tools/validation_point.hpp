// One prediction joined with the measurement of the same schedule.
#pragma once

#include <string>

#include "signsplit/sim/validation.hpp"
#include "tools/measure.hpp"

namespace signsplit::tools {

/// Name of the group of a case: "2048x8192 bf16 relu, batch 1, active 10 %, cold".
[[nodiscard]] std::string group_name(const sim::ValidationCase& validation_case);

/// Which turns of a case its measured time is the median of.
enum class TurnsOf {
  steady,  ///< those that count
  all,     ///< also those during which the machine was another one
};

[[nodiscard]] sim::ValidationPoint validation_point(const std::string& group, const sim::Scenario& scenario, const sim::Prediction& predicted,
                                                    const sim::Machine& machine, const CaseResult& measured, TurnsOf turns = TurnsOf::steady);

}  // namespace signsplit::tools
