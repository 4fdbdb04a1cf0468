// --activity: what predictions take the data-dependent part from.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "signsplit/sim/activity.hpp"

namespace signsplit::tools {

/// A fraction for the Gaussian model; or reports of `signsplit activity`; or a recorded mask.
struct ActivitySource {
  double active = 1.0;  ///< of all units; of reports and masks what they say
  std::vector<ActivityReport> reports = {};
  std::optional<sim::RecordedMask> mask = {};

  /// What is given of a plan's activity; the rest is expected_activity's.
  [[nodiscard]] sim::Activity of(const Plan& plan, const Problem& problem) const;
  /// Ok when a mask, if there is one, fits the problem.
  [[nodiscard]] Status fits(const Problem& problem) const;
  /// [F], of a mask's first call; empty without one.
  [[nodiscard]] std::vector<std::uint8_t> open_units(index_t batch) const;
};

void add_activity_option(CLI::App& command, std::string& file);

/// A .npy: a mask [N, F] f32 of 0 and 1, as `run --mask` and `run --exact-mask` write it. Any other file: JSON of
/// `signsplit activity`, of all of whose layers the mean counts. Errors name the file and the rule.
[[nodiscard]] Result<ActivitySource> read_activity(const std::string& file);

}  // namespace signsplit::tools
