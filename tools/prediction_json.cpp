#include "tools/prediction_json.hpp"

namespace signsplit::tools {

Json prediction_json(const Plan& plan, const sim::Prediction& prediction) { return Json::parse(sim::to_json(plan, prediction)); }

Json decision_json(const std::optional<sim::Decision>& decision) { return Json::parse(sim::to_json(decision)); }

}  // namespace signsplit::tools
