// Trials: how calibration times the executor without the simulator knowing it.
#pragma once

#include "signsplit/cpu.hpp"
#include "signsplit/sim/calibrate.hpp"

namespace signsplit::tools {

/// A TrialRunner that times plans on a synthetic layer with the CPU executor, through measure(): the same code that
/// will check the predictions, so that calibration and validation mean the same thing by "time".
[[nodiscard]] sim::TrialRunner trial_runner(cpu::Isa isa, std::uint64_t seed = 1);

}  // namespace signsplit::tools
