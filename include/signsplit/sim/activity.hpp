// Activity from measurements: in place of the Gaussian model, what `signsplit activity` counted, or a recorded mask.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "signsplit/activity.hpp"
#include "signsplit/sim/predict.hpp"

namespace signsplit::sim {

/// Fractions that the reports of one or more layers say, each counting by its (unit, token) pairs: open units; of certified
/// plans the units that their plane does not prove closed (at the plan's width and group); of sign_split/interim with skip or
/// repair what its K tiles push and get wrong (at the plan's number of equal tiles). A report of one token knows nothing of how
/// tokens overlap: those of a batch are taken as independent. What the reports lack is left to expected_activity.
[[nodiscard]] Activity activity_from(std::span<const ActivityReport> reports, const Plan& plan, const Problem& problem);

/// Which units were open: [tokens, units], 0 or 1, as Ffn::run writes them.
struct RecordedMask {
  index_t tokens = 0, units = 0;
  std::vector<std::uint8_t> open;
};

/// Ok, or invalid_argument: the mask has a column for every hidden unit of the problem, and tokens for at least one call.
[[nodiscard]] Status fits(const RecordedMask& mask, const Problem& problem);

/// What the mask decides, as the mean of its whole calls of problem.batch tokens (a rest of fewer is left out). Of unfused and
/// row_fused plans that is everything: for a mask of one call, count() gives that run's counters exactly, but under drelu with
/// skip, whose gate a mask of open units does not tell. certified's survivors and sign_split's pushes depend on more than which
/// units were open: those are left to expected_activity. fits(mask, problem) must hold.
[[nodiscard]] Activity activity_from(const RecordedMask& mask, const Plan& plan, const Problem& problem);

/// [units]: 1 where a unit is open for a token of the mask's first call; for simulate() and replay().
[[nodiscard]] std::vector<std::uint8_t> open_units(const RecordedMask& mask, index_t batch);

}  // namespace signsplit::sim
