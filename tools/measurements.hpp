// Measurements of a validation on disk: what can be gone on with after a break, committed, and predicted again by a later model.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "signsplit/sim/as_of_now.hpp"
#include "signsplit/sim/validation.hpp"
#include "tools/json_output.hpp"
#include "tools/measure.hpp"
#include "tools/validation_point.hpp"

namespace signsplit::tools {

/// The alternatives for one problem, as measured.
struct MeasuredGroup {
  sim::ValidationCase request;
  MeasureResult measured;  ///< of the cases: plan, label, median, p10, p90, samples, whether the bits are right, error
  sim::Reading reading = {};  ///< the machine just before; empty: it was not asked
  int repeats = 0;         ///< measurements thrown away before, because the machine was another one in half of their turns
};

struct Measurements {
  std::string suite, date;      ///< date: of the first measurement, UTC
  std::string isa;              ///< empty: the machine's
  int threads = 0;              ///< 0: the machine's
  sim::Machine machine;         ///< the profile that the predictions were made with
  std::vector<MeasuredGroup> groups;

  [[nodiscard]] const MeasuredGroup* find(const sim::ValidationCase& request) const;
};

/// The problem as an object, and back.
[[nodiscard]] Json problem_json(const Problem& problem);

/// Written whole or not at all, one line per group.
[[nodiscard]] Status write_measurements(const std::filesystem::path& file, const Measurements& measurements);
/// Errors name the file and the rule.
[[nodiscard]] Result<Measurements> read_measurements(const std::filesystem::path& file);

[[nodiscard]] Json reading_json(const sim::Reading& reading);

/// What a prediction knows of the machine.
enum class Knows {
  profile,   ///< the profile alone
  reading,   ///< and what a probe said just before the measurement: the prediction that counts
  same_run,  ///< and main memory's bandwidth as the read loop between the measured calls found it: no prediction any more, but it
             ///< tells the error of the model from the drift of the machine
};
[[nodiscard]] sim::Machine machine_for(const sim::Machine& profile, const MeasuredGroup& group, Knows knows);

/// Points of all groups, predicted by today's model on a machine, joined with what was measured then.
[[nodiscard]] std::vector<sim::ValidationPoint> replay(const Measurements& measurements, const sim::Machine& machine,
                                                       Knows knows = Knows::reading, TurnsOf turns = TurnsOf::steady);

}  // namespace signsplit::tools
