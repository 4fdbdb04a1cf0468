// Counting: the walk's events with the executors' accounting, and the way back from a run's counters to fractions.
#include <algorithm>
#include <cmath>

#include "signsplit/residual.hpp"
#include "signsplit/sim/predict.hpp"
#include "structure.hpp"

namespace signsplit::sim {
namespace {

std::uint64_t u64(index_t n) { return static_cast<std::uint64_t>(n); }

/// Counts the events of one item.
class CountingSink {
 public:
  CountingSink(const Plan& plan, const Problem& problem) : plan_(plan), problem_(problem), shape_(walk_shape(problem)) {}

  void begin_part(index_t, Phase phase) {
    previous_ = Product::none;
    if (phase != Phase::second_product) counts_.bytes_x += u64(problem_.batch * shape_.d_padded * 4);
    if (phase != Phase::first_product) counts_.bytes_y += u64(problem_.batch * shape_.d_padded * 4);
  }
  void certify(HiddenRange hidden) {
    const PanelLayout layout{shape_.d_padded, plan_.plane_group};
    counts_.bytes_plane += u64(panels_spanned(hidden.begin, hidden.end) * layout.bytes());
  }
  void up_tile(HiddenRange hidden, KRange k) {
    ++counts_.tiles;
    counts_.up_elements += u64(hidden.size() * k.size());
    counts_.up_pieces += u64(hidden.size());
    counts_.up_scales += u64(hidden.size() * scale_count(problem_, k.begin, k.end));
    counts_.up_jumps += previous_ == Product::up ? 0 : 1;
    previous_ = Product::up;
  }
  void activate(HiddenRange) {}
  void push(HiddenRange, KRange) {}
  void down_tile(HiddenRange hidden) {
    ++counts_.tiles;
    counts_.down_rows += u64(hidden.size());
    counts_.down_jumps += previous_ == Product::down ? 0 : 1;
    previous_ = Product::down;
  }
  void correct(HiddenRange) {}
  void store_h(HiddenRange hidden) { counts_.bytes_h += u64(hidden.size() * problem_.batch * 4); }
  void load_h(HiddenRange hidden) { counts_.bytes_h += u64(hidden.size() * problem_.batch * 4); }
  void reduce(ColumnRange columns) { counts_.bytes_y += u64(plan_.parts * problem_.batch * columns.size() * 4); }

  [[nodiscard]] const Structure& counts() const { return counts_; }

 private:
  enum class Product { none, up, down };
  const Plan& plan_;
  const Problem& problem_;
  WalkShape shape_;
  Structure counts_;
  Product previous_ = Product::none;
};

void add(Structure& sum, const Structure& item, std::uint64_t times) {
  sum.up_elements += times * item.up_elements;
  sum.up_pieces += times * item.up_pieces;
  sum.up_scales += times * item.up_scales;
  sum.up_jumps += times * item.up_jumps;
  sum.down_rows += times * item.down_rows;
  sum.down_jumps += times * item.down_jumps;
  sum.tiles += times * item.tiles;
  sum.bytes_plane += times * item.bytes_plane;
  sum.bytes_x += times * item.bytes_x;
  sum.bytes_h += times * item.bytes_h;
  sum.bytes_y += times * item.bytes_y;
}

/// `items` equal items, the first of which is `item`.
void add_equal_items(Structure& sum, const Plan& plan, const Problem& problem, Phase phase, index_t item, index_t items) {
  if (items <= 0) return;
  CountingSink sink(plan, problem);
  walk(plan, walk_shape(problem), phase, item, sink);
  add(sum, sink.counts(), u64(items));
}

/// A fraction of n things as a number of things. Inverse of k / n: the two roundings cannot move the result by a half.
std::uint64_t things(double fraction, double n) {
  const double count = std::round(fraction * n);
  return count >= 1.0 ? static_cast<std::uint64_t>(std::min(count, 9e18)) : 0;  // NaN and negative: none
}

double fraction_of(std::uint64_t count, double n) { return static_cast<double>(count) / n; }

/// Bytes of a survivor's row of the first matrix, or of what stands for it.
std::uint64_t refined_row_bytes(const Plan& plan, const Problem& problem, std::uint64_t row) {
  if (plan.placement != Placement::residual) return row;
  return u64(ResidualLayout{problem.dtype, walk_shape(problem).d_padded}.row_bytes());
}

/// Blocks of 64 elements, in which K tiles are counted, of a row.
std::uint64_t blocks(const Problem& problem) { return u64(walk_shape(problem).d_padded / kAccumulators); }
/// Of a whole matrix, a fraction.
std::uint64_t read_blocks(double fraction, const Problem& problem) {
  return things(fraction, static_cast<double>(u64(problem.d_ff) * blocks(problem)));
}

bool gate_first(const Plan& plan, const Problem& problem) {
  return problem.gated && plan.skip && plan.strategy != Strategy::sign_split;
}

/// down_tile events that each hidden unit takes part in.
double down_events(const Plan& plan, const Problem& problem) {
  return plan.strategy == Strategy::sign_split ? static_cast<double>(k_tile_count(plan, walk_shape(problem))) : 1.0;
}

}  // namespace

Structure structure_of(const Plan& plan, const Problem& problem) {
  Structure sum;
  const WalkShape shape = walk_shape(problem);
  sum.row_bytes = u64(shape.d_padded * dtype_bytes(problem.dtype));
  for (int index = 0; index < phase_count(plan); ++index) {
    const Phase phase = phase_at(plan, index);
    const index_t items = item_count(plan, shape, phase);
    if (phase == Phase::reduce) {  // all slices equal but the last
      add_equal_items(sum, plan, problem, phase, 0, items - 1);
      add_equal_items(sum, plan, problem, phase, items - 1, 1);
    } else if (plan.strategy == Strategy::certified) {
      for (index_t item = 0; item < items; ++item) add_equal_items(sum, plan, problem, phase, item, 1);
    } else {
      const index_t longer = shape.d_ff % plan.parts;
      add_equal_items(sum, plan, problem, phase, 0, longer);
      add_equal_items(sum, plan, problem, phase, longer, items - longer);
    }
  }
  return sum;
}

Statistics count(const Plan& plan, const Problem& problem, const Activity& activity) {
  if (!validate(plan, problem).ok()) return {};
  const Activity full = expected_activity(activity.active, plan, problem);
  const auto known = [](const std::optional<double>& given, const std::optional<double>& expected) {
    return given ? *given : expected.value_or(0.0);
  };
  const Structure structure = structure_of(plan, problem);
  const double units = static_cast<double>(problem.d_ff), pairs = units * static_cast<double>(problem.batch);

  Statistics s;
  s.bytes_x = structure.bytes_x;
  s.bytes_h = structure.bytes_h;
  s.bytes_y = structure.bytes_y;
  s.tiles = structure.tiles;
  s.active = things(activity.active, pairs);
  s.active_union = things(known(activity.active_union, full.active_union), units);
  s.pushed_rows = things(known(activity.pushed, full.pushed), static_cast<double>(structure.down_rows));
  s.repaired = things(known(activity.repaired, full.repaired), units);
  s.redone = things(known(activity.redone, full.redone), units);
  s.rechecked = things(known(activity.rechecked, full.rechecked), pairs);

  const std::uint64_t row = structure.row_bytes, dense = u64(dtype_bytes(problem.dtype)) * structure.up_elements;
  const std::uint64_t up_again = (s.redone + s.rechecked) * row;
  std::uint64_t first = dense;  // of W1, or of a gated layer Wg
  std::uint64_t scales = structure.up_scales;  // those of its rows
  if (plan.strategy == Strategy::certified) {
    s.refined = things(known(activity.refined, full.refined), units);
    s.certified = u64(problem.d_ff) - std::min(s.refined, u64(problem.d_ff));
    s.bytes_plane = structure.bytes_plane;
    const std::uint64_t raw = things(activity.raw.value_or(0.0), units);
    first = (s.refined - std::min(raw, s.refined)) * refined_row_bytes(plan, problem, row) + raw * row;
    if (judges_again(plan, problem)) {
      const double share = s.refined > 0 ? *full.refined_read / *full.refined : 0.0;  // where only the rows are known
      first = read_blocks(activity.refined_read.value_or(share * known(activity.refined, full.refined)), problem) * row / blocks(problem);
    }
    scales = s.refined * u64(scale_count(problem, 0, walk_shape(problem).d_padded));  // of whole rows, whatever the K tiles
  }
  const std::uint64_t up = gate_first(plan, problem) ? row * things(known(activity.up_rows, full.up_rows), units)
                           : problem.gated           ? dense
                                                     : first;
  s.bytes_up = up + up_again;
  s.bytes_gate = problem.gated ? first + up_again : 0;
  s.bytes_up_again = up_again * (problem.gated ? 2 : 1);
  const std::uint64_t row_scales = u64(scale_count(problem, 0, problem.d_model));
  if (problem.gated) scales += gate_first(plan, problem) ? up / row * row_scales : structure.up_scales;
  scales += up_again / row * row_scales * (problem.gated ? 2 : 1);
  s.bytes_scales = scales * kScaleBytes + u64(down_scale_bytes(problem));
  s.bytes_down = (s.pushed_rows + s.repaired) * row;
  if (plan.strategy == Strategy::sign_split) {
    const std::uint64_t again = plan.skip ? things(known(activity.down_again, full.down_again), units)
                                          : s.pushed_rows + s.repaired - std::min(s.pushed_rows, u64(problem.d_ff));
    s.bytes_down_again = std::min(again * row, s.bytes_down);
  }
  return s;
}

Activity activity_from(const Statistics& s, const Plan& plan, const Problem& problem) {
  const double units = static_cast<double>(problem.d_ff), pairs = units * static_cast<double>(problem.batch);
  const double row = static_cast<double>(walk_shape(problem).d_padded * dtype_bytes(problem.dtype));
  Activity activity;
  activity.active = fraction_of(s.active, pairs);
  activity.active_union = fraction_of(s.active_union, units);
  activity.pushed = fraction_of(s.pushed_rows, units * down_events(plan, problem));
  activity.repaired = fraction_of(s.repaired, units);
  activity.redone = fraction_of(s.redone, units);
  activity.rechecked = fraction_of(s.rechecked, pairs);
  if (plan.strategy == Strategy::certified) activity.refined = fraction_of(s.refined, units);
  const std::uint64_t row_bytes = u64(walk_shape(problem).d_padded * dtype_bytes(problem.dtype));
  if (judges_again(plan, problem)) {
    const std::uint64_t read = problem.gated ? s.bytes_gate - s.bytes_up_again / 2 : s.bytes_up - s.bytes_up_again;
    activity.refined_read = fraction_of(read, units * row);
  }
  if (const std::uint64_t restored = refined_row_bytes(plan, problem, row_bytes); restored != row_bytes) {
    const std::uint64_t read = problem.gated ? s.bytes_gate - s.bytes_up_again / 2 : s.bytes_up - s.bytes_up_again;
    const double more = static_cast<double>(read) - static_cast<double>(s.refined * restored);
    activity.raw = more / (static_cast<double>(row_bytes) - static_cast<double>(restored)) / units;
  }
  if (gate_first(plan, problem)) {
    const std::uint64_t again = s.bytes_up_again / 2;  // up and gate alike
    activity.up_rows = fraction_of(s.bytes_up - std::min(s.bytes_up, again), units * row);
  }
  if (plan.strategy == Strategy::sign_split && plan.skip) {
    activity.down_again = fraction_of(s.bytes_down_again, units * row);
  }
  return activity;
}

}  // namespace signsplit::sim
