// The schedules that a comparison compares.
#pragma once

#include <vector>

#include "signsplit/plan.hpp"

namespace signsplit::tools {

/// Default plans of every strategy that is valid for the problem, each without and with skip: unfused, row_fused, and
/// every variant and repair of sign_split. `ignore`, which computes something else, only when asked for.
[[nodiscard]] std::vector<Plan> default_plans(const Problem& problem, bool with_ignore = true);

/// True for strategies that go over the weights without a barrier between the products.
[[nodiscard]] constexpr bool is_fused(const Plan& plan) { return plan.strategy != Strategy::unfused; }

}  // namespace signsplit::tools
