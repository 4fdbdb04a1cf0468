// Whether this machine was calibrated.
#pragma once

#include "tools/command.hpp"

namespace signsplit::tools {

/// True when find_machine("host") gives measured numbers.
[[nodiscard]] bool host_is_calibrated();
/// Unless calibrated: a remark on stderr that says so, and which command changes it.
void note_uncalibrated_host(const Context& context);

}  // namespace signsplit::tools
