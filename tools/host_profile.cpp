#include "tools/host_profile.hpp"

#include <filesystem>

#include "signsplit/sim/machine.hpp"

namespace signsplit::tools {

bool host_is_calibrated() {
  std::error_code error;
  return std::filesystem::is_regular_file(sim::host_profile_path(), error);
}

void note_uncalibrated_host(const Context& context) {
  if (host_is_calibrated()) return;
  context.note("this machine is not calibrated: its numbers are guesses and the intervals wide; run `signsplit calibrate`");
}

}  // namespace signsplit::tools
