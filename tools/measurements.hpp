// Measurements of a validation on disk: what can be gone on with after a break, committed, and predicted again by a later model.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "signsplit/sim/validation.hpp"
#include "tools/json_output.hpp"
#include "tools/measure.hpp"

namespace signsplit::tools {

/// The alternatives for one problem, as measured.
struct MeasuredGroup {
  sim::ValidationCase request;
  MeasureResult measured;  ///< of the cases: plan, label, median, p10, p90, samples, whether the bits are right, error
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

/// Points of all groups, predicted by today's model on a machine, joined with what was measured then.
[[nodiscard]] std::vector<sim::ValidationPoint> replay(const Measurements& measurements, const sim::Machine& machine);

}  // namespace signsplit::tools
