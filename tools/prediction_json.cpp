#include "tools/prediction_json.hpp"

namespace signsplit::tools {

Json prediction_json(const Plan& plan, const sim::Prediction& prediction) {
  Json terms = Json::object();
  for (const auto& [name, seconds] : prediction.terms.named()) terms[name] = seconds;
  return {{"strategy", to_string(plan.strategy)},
          {"variant", to_string(plan.variant)},
          {"repair", to_string(plan.repair)},
          {"skip", plan.skip},
          {"label", label(plan)},
          {"time_s", prediction.time_s},
          {"low_s", prediction.low_s},
          {"high_s", prediction.high_s},
          {"terms", std::move(terms)},
          {"bytes", statistics_json(prediction.bytes)}};
}

Json decision_json(const std::optional<sim::Decision>& decision) {
  if (!decision) return nullptr;
  return {{"winner", decision->winner},
          {"loser", decision->loser},
          {"gap_s", decision->gap_s},
          {"uncertainty_s", decision->uncertainty_s},
          {"verdict", sim::to_string(decision->verdict)}};
}

}  // namespace signsplit::tools
