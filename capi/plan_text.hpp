// Plans as text: the name of a schedule, or the JSON of a plan.
#pragma once

#include "signsplit/plan.hpp"

namespace signsplit::capi {

/// The plan that `text` names for this problem: what label() prints, a shorter form of it (sign_split, sign_split/streams),
/// or JSON; nullptr is row_fused. Not validated.
[[nodiscard]] Result<Plan> parse_plan(const char* text, const Problem& problem);

}  // namespace signsplit::capi
