// Trials: how calibration times the executor without the simulator knowing it.
#pragma once

#include <functional>

#include "signsplit/cpu.hpp"
#include "signsplit/sim/as_of_now.hpp"
#include "signsplit/sim/calibrate.hpp"
#include "tools/executor.hpp"

namespace signsplit::tools {

/// A TrialRunner that times plans on a synthetic layer with the CPU executor, through measure(): the same code that
/// will check the predictions, so that calibration and validation mean the same thing by "time".
[[nodiscard]] sim::TrialRunner trial_runner(cpu::Isa isa, std::uint64_t seed = 1);

/// What a validation asks before each problem: readings of this machine, with the executor's threads and instruction set. Empty for
/// an executor that is not the CPU.
[[nodiscard]] Result<std::function<sim::Reading()>> reading_probe(const Executor& executor, const sim::Machine& machine);

}  // namespace signsplit::tools
