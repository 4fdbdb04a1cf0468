// Wisdom: measured answers of the planner, kept in a file so that they need not be measured again.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "signsplit/sim/planner.hpp"

namespace signsplit::sim {

struct WisdomEntry {
  Plan plan;
  double time_s = 0;
  bool gemm = false;  ///< a vendor's matrix products took so much less that auto runs those
  double gemm_s = 0;  ///< 0: not looked at
};

/// What identifies a question: one line of text. `active` counts in steps of √2.
[[nodiscard]] std::string wisdom_key(const PlanRequest& request, const Machine& machine);

/// The entry of a key; empty when the file or the entry is not there. A file that is not wisdom, or a plan that is not
/// valid for the problem, is an error that names the file and the rule.
[[nodiscard]] Result<std::optional<WisdomEntry>> find_wisdom(const std::filesystem::path& file, const std::string& key, const Problem& problem);

/// Adds or replaces an entry: the file is read, written under a temporary name, and renamed. Two processes that add at
/// the same time may lose one of the two entries, never the file.
[[nodiscard]] Status remember(const std::filesystem::path& file, const std::string& key, const WisdomEntry& entry);

}  // namespace signsplit::sim
