// The page of a sweep: one heat map per machine, weight type and batch.
#pragma once

#include <span>
#include <string>

#include "signsplit/sim/sweep.hpp"

namespace signsplit::tools {

/// A self-contained page, no scripts. Columns are shapes in the order given, rows are fractions of active units, growing
/// upwards. A cell's colour is log2(unfused time / fused time), grey where the verdict is `too close to call`; the line
/// runs where the predicted winner changes.
[[nodiscard]] std::string sweep_page(const sim::SweepRequest& request, std::span<const sim::SweepPoint> points,
                                     std::span<const sim::Machine> machines);

}  // namespace signsplit::tools
