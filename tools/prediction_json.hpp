// Predictions and decisions in JSON, with the keys of `predict --json`.
#pragma once

#include <optional>

#include "signsplit/sim/predict.hpp"
#include "tools/json_output.hpp"

namespace signsplit::tools {

/// strategy, variant, repair, skip, label, time_s, low_s, high_s, terms{}, bytes{}.
[[nodiscard]] Json prediction_json(const Plan& plan, const sim::Prediction& prediction);
/// winner, loser, gap_s, uncertainty_s, verdict; null when there was nothing to decide.
[[nodiscard]] Json decision_json(const std::optional<sim::Decision>& decision);

}  // namespace signsplit::tools
