#include "tools/validation_point.hpp"

#include <fmt/format.h>

#include "tools/cpu_options.hpp"
#include "tools/quantity_text.hpp"

namespace signsplit::tools {

std::string group_name(const sim::ValidationCase& request) {
  return fmt::format("{}, active {}, {}", describe(request.problem), percent_text(request.active), to_string(request.residency));
}

sim::ValidationPoint validation_point(const std::string& group, const sim::Scenario& scenario, const sim::Prediction& predicted,
                                      const sim::Machine& machine, const CaseResult& measured, TurnsOf turns) {
  return {.group = group,
          .label = label(scenario.plan),
          .fused = is_fused(scenario.plan),
          .predicted_s = predicted.time_s,
          .low_s = predicted.low_s,
          .high_s = predicted.high_s,
          .roofline_s = sim::roofline_s(scenario, machine),
          .roofline_launch_s = sim::roofline_launch_s(scenario, machine),
          .measured_s = turns == TurnsOf::steady ? measured.median_s : measured.all_turns_median_s,
          .measured_p10_s = measured.p10_s,
          .measured_p90_s = measured.p90_s,
          .paired_s = turns == TurnsOf::steady ? measured.paired_s : 0.0,
          .paired_ci90_s = measured.paired_ci90_s,
          .candidate = scenario.plan.strategy != Strategy::sign_split,
          .terms = predicted.terms,
          .memory = predicted.memory};
}

}  // namespace signsplit::tools
