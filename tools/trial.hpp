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

/// How a validation looks at the machine.
struct MachineProbe {
  std::function<sim::Reading()> read = {};  ///< asked just before each measurement
  /// Asked between its timed calls: whether the machine is still that of the reading; `with_memory`, its main memory too. Empty: not asked.
  std::function<bool(const sim::Reading& reading, bool with_memory)> still = {};
};

/// What a validation asks before each problem, and between the timed calls, of this machine with the executor's threads and instruction
/// set. Empty for an executor that is not the CPU.
[[nodiscard]] Result<MachineProbe> machine_probe(const Executor& executor, const sim::Machine& machine);

}  // namespace signsplit::tools
