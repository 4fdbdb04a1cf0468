// The time as it is written into result files.
#pragma once

#include <string>

namespace signsplit::tools {

/// Now, in UTC, ISO 8601 to the second: "2026-01-01T00:00:00Z".
[[nodiscard]] std::string utc_now();

}  // namespace signsplit::tools
