// How the analyses of a layer look in JSON.
#pragma once

#include "signsplit/activity.hpp"
#include "signsplit/overflow.hpp"
#include "tools/json_output.hpp"

namespace signsplit::tools {

[[nodiscard]] Json activity_json(const ActivityReport& report);
[[nodiscard]] Json overflow_json(const OverflowReport& report);

}  // namespace signsplit::tools
