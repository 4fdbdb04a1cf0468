#include <nlohmann/json.hpp>

#include "signsplit/sim/planner.hpp"

namespace signsplit::sim {

using Json = nlohmann::ordered_json;

std::string to_json(const Plan& plan, const Prediction& prediction) {
  Json terms = Json::object();
  for (const auto& [name, seconds] : prediction.terms.named()) terms[name] = seconds;
  const Json json = {{"strategy", to_string(plan.strategy)},
                     {"variant", to_string(plan.variant)},
                     {"repair", to_string(plan.repair)},
                     {"skip", plan.skip},
                     {"label", label(plan)},
                     {"time_s", prediction.time_s},
                     {"low_s", prediction.low_s},
                     {"high_s", prediction.high_s},
                     {"terms", std::move(terms)},
                     {"bytes", Json::parse(signsplit::to_json(prediction.bytes))}};
  return json.dump();
}

std::string to_json(const ChosenPlan& chosen) {
  const Json json = {{"label", label(chosen.plan)},
                     {"source", to_string(chosen.source)},
                     {"time_s", chosen.time_s},
                     {"plan", Json::parse(signsplit::to_json(chosen.plan))},
                     {"gemm", chosen.gemm},
                     {"gemm_s", chosen.gemm_s}};
  return json.dump();
}

std::string to_json(const std::optional<Decision>& decision) {
  if (!decision) return "null";
  const Json json = {{"winner", decision->winner},
                     {"loser", decision->loser},
                     {"gap_s", decision->gap_s},
                     {"uncertainty_s", decision->uncertainty_s},
                     {"verdict", to_string(decision->verdict)}};
  return json.dump();
}

}  // namespace signsplit::sim
