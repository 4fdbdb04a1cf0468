// How the analyses of a layer look in JSON.
#pragma once

#include <string_view>
#include <vector>

#include "signsplit/activity.hpp"
#include "signsplit/overflow.hpp"
#include "tools/json_output.hpp"

namespace signsplit::tools {

[[nodiscard]] Json activity_json(const ActivityReport& report);
/// Of the layers in the JSON of `signsplit activity`, what predictions use: units, tokens, active, planes (bits, group,
/// executed), crossings. invalid_argument names the key and the rule.
[[nodiscard]] Result<std::vector<ActivityReport>> activity_from_json(std::string_view text);
[[nodiscard]] Json overflow_json(const OverflowReport& report);

}  // namespace signsplit::tools
