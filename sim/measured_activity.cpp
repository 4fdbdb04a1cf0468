// Activity from measurements.
#include <algorithm>
#include <string>

#include "normal.hpp"
#include "signsplit/sim/activity.hpp"
#include "signsplit/walk.hpp"

namespace signsplit::sim {
namespace {

/// A mean over reports by their (unit, token) pairs, of those that have a value.
class Mean {
 public:
  void add(const ActivityReport& report, double value) {
    const double pairs = static_cast<double>(report.units) * static_cast<double>(report.tokens);
    sum_ += pairs * value;
    pairs_ += pairs;
  }
  [[nodiscard]] std::optional<double> value() const { return pairs_ > 0.0 ? std::optional(sum_ / pairs_) : std::nullopt; }

 private:
  double sum_ = 0, pairs_ = 0;
};

const CrossingRate* crossing_of(const ActivityReport& report, index_t k_tiles) {
  const auto found = std::find_if(report.crossings.begin(), report.crossings.end(), [&](const CrossingRate& c) { return c.k_tiles == k_tiles; });
  return found != report.crossings.end() ? &*found : nullptr;
}

const PlaneRate* plane_of(const ActivityReport& report, const Plan& plan) {
  const auto found = std::find_if(report.planes.begin(), report.planes.end(), [&](const PlaneRate& p) {
    return p.bits == plan.plane_bits && p.group == plan.plane_group;
  });
  return found != report.planes.end() ? &*found : nullptr;
}

/// sign_split/interim: wrong and pushed units, of all and per token.
void add_crossings(std::span<const ActivityReport> reports, const Plan& plan, const Problem& problem, Activity& activity) {
  const index_t tiles = k_tile_count(plan, walk_shape(problem));
  Mean wrong, pushed;
  for (const ActivityReport& report : reports) {
    const CrossingRate* crossing = crossing_of(report, tiles);
    if (crossing == nullptr) continue;
    wrong.add(report, crossing->wrong);
    pushed.add(report, crossing->pushed / static_cast<double>(tiles));
  }
  if (!wrong.value()) return;
  if (plan.skip) activity.pushed = any_of_batch(*pushed.value(), problem.batch);
  if (plan.repair == Repair::selective || plan.repair == Repair::redo) activity.repaired = any_of_batch(*wrong.value(), problem.batch);
  if (plan.repair == Repair::redo) activity.redone = activity.repaired;
}

}  // namespace

Activity activity_from(std::span<const ActivityReport> reports, const Plan& plan, const Problem& problem) {
  Mean active, executed;
  for (const ActivityReport& report : reports) {
    active.add(report, report.active);
    if (const PlaneRate* plane = plane_of(report, plan)) executed.add(report, plane->executed);
  }
  Activity activity;
  activity.active = active.value().value_or(1.0);
  if (plan.strategy == Strategy::certified && executed.value()) activity.refined = any_of_batch(1.0 - *executed.value(), problem.batch);
  const bool interim = plan.strategy == Strategy::sign_split && plan.variant == Variant::interim;
  if (interim && problem.activation.kind == ActivationKind::relu) add_crossings(reports, plan, problem, activity);
  return activity;
}

Status fits(const RecordedMask& mask, const Problem& problem) {
  if (mask.units != problem.d_ff) {
    return invalid_argument("the mask has " + std::to_string(mask.units) + " columns, the FFN " + std::to_string(problem.d_ff) + " hidden units");
  }
  if (mask.tokens < problem.batch) {
    return invalid_argument("the mask has " + std::to_string(mask.tokens) + " tokens, a call " + std::to_string(problem.batch));
  }
  if (mask.open.size() != static_cast<std::size_t>(mask.tokens * mask.units)) return invalid_argument("mask.open must be [tokens, units]");
  return {};
}

std::vector<std::uint8_t> open_units(const RecordedMask& mask, index_t batch) {
  const auto units = static_cast<std::size_t>(mask.units);
  std::vector<std::uint8_t> open(units, 0);
  for (std::size_t i = 0; i < static_cast<std::size_t>(batch) * units; ++i) open[i % units] |= mask.open[i] != 0;
  return open;
}

Activity activity_from(const RecordedMask& mask, const Plan& plan, const Problem& problem) {
  const auto units = static_cast<std::size_t>(mask.units), batch = static_cast<std::size_t>(problem.batch);
  const index_t calls = mask.tokens / problem.batch;
  std::uint64_t pairs = 0, rows = 0;  // open, of all calls
  for (index_t call = 0; call < calls; ++call) {
    const std::uint8_t* const first = mask.open.data() + static_cast<std::size_t>(call) * batch * units;
    for (std::size_t unit = 0; unit < units; ++unit) {
      std::uint64_t tokens = 0;
      for (std::size_t b = 0; b < batch; ++b) tokens += first[b * units + unit] != 0;
      pairs += tokens;
      rows += tokens > 0;
    }
  }
  const double all = static_cast<double>(calls) * static_cast<double>(units);
  Activity activity;
  activity.active = static_cast<double>(pairs) / (all * static_cast<double>(batch));
  activity.active_union = static_cast<double>(rows) / all;
  if (plan.strategy == Strategy::sign_split || !plan.skip) return activity;
  activity.pushed = activity.active_union;
  if (problem.gated && problem.activation.kind != ActivationKind::drelu) activity.up_rows = activity.active_union;
  return activity;
}

}  // namespace signsplit::sim
