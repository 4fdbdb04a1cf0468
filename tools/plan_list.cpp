#include "tools/plan_list.hpp"

namespace signsplit::tools {

std::vector<Plan> default_plans(const Problem& problem, bool with_ignore) {
  std::vector<Plan> plans;
  const auto add = [&](const Plan& plan) {
    if (validate(plan, problem).ok()) plans.push_back(plan);
  };
  for (const Strategy strategy : {Strategy::unfused, Strategy::row_fused}) {
    for (const bool skip : {false, true}) add(default_plan(problem, strategy, skip));
  }
  for (const Variant variant : {Variant::interim, Variant::streams, Variant::telescoping, Variant::ignore}) {
    if (variant == Variant::ignore && !with_ignore) continue;
    for (const Repair repair : {Repair::none, Repair::selective, Repair::full, Repair::redo}) {
      for (const bool skip : {false, true}) add(default_sign_split_plan(problem, variant, repair, skip));
    }
  }
  return plans;
}

}  // namespace signsplit::tools
