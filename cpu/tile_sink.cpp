#include "tile_sink.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/with_batch.hpp"

namespace signsplit::cpu {

/// What two workers share of a part is counted with its beginning.
void TileSink::begin_part(index_t part, Phase phase) {
  phase_ = phase;
  part_begin_ = part_range(run_.plan, run_.shape, part).begin;
  const bool begins = units_.begin == part_begin_;
  const index_t elems = begins ? run_.problem.batch * run_.shape.d_padded : 0;
  if (phase != Phase::second_product) statistics_.bytes_x += static_cast<std::uint64_t>(elems) * sizeof(float);
  if (phase == Phase::first_product) return;
  if (begins && part == 0) statistics_.bytes_scales += static_cast<std::uint64_t>(down_scale_bytes(run_.problem));
  y_part_ = run_.workspace.partial_y + part * run_.problem.batch * run_.workspace.y_stride;
  y_begun_ = !begins;
  statistics_.bytes_y += static_cast<std::uint64_t>(elems) * sizeof(float);
  if (integers()) begin_integer_part();
}

/// A tile that two workers share is counted with its beginning.
void TileSink::count_tile(HiddenRange hidden) { statistics_.tiles += (hidden.begin - part_begin_) % run_.plan.hidden_tile == 0 ? 1 : 0; }

/// y of the part = +0, once.
void TileSink::begin_y() {
  if (y_begun_) return;
  std::memset(y_part_, 0, static_cast<std::size_t>(run_.problem.batch * run_.workspace.y_stride) * sizeof(float));
  y_begun_ = true;
}

// ---- what is read, and what after it ----

RowList TileSink::rows_of(Matrix matrix, Units units, KRange k) const {
  const Weights& w = run_.weights;
  const index_t elem_bytes = dtype_bytes(w.dtype());
  const std::byte* base = matrix == Matrix::gate ? w.gate() : matrix == Matrix::up ? w.up() : w.down();
  return {base + k.begin * elem_bytes, w.row_bytes(), k.size() * elem_bytes, units.data(), 0,
          static_cast<index_t>(units.size())};
}

RowList TileSink::rows_of(Matrix matrix, HiddenRange units, KRange k) const {
  RowList list = rows_of(matrix, Units{}, k);
  list.first = units.begin;
  list.row_count = units.size();
  return list;
}

/// The next tile of the part, or the first of the part that follows.
RowList TileSink::next_tile(HiddenRange hidden, Matrix matrix) const {
  const index_t begin = hidden.end < units_.end ? hidden.end : following_;
  const HiddenRange next{begin, std::min(begin + hidden.size(), run_.shape.d_ff)};
  return rows_of(matrix, next, matrix == Matrix::down ? whole_row() : k_range(run_.plan, run_.shape, 0));
}

/// What follows the K tile of the first matrix (the gate, if there is one) when its rows depend on no result.
RowList TileSink::after_first_matrix(HiddenRange hidden, KRange k) const {
  if (run_.problem.gated && !run_.plan.skip) return rows_of(Matrix::up, hidden, k);
  if (k.last) return run_.problem.gated ? RowList{} : after_first_product(hidden);
  return rows_of(first_matrix(), hidden, {k.end, std::min(k.end + k.size(), run_.shape.d_padded)});
}

RowList TileSink::after_first_product(HiddenRange hidden) const {
  if (phase_ == Phase::first_product) return next_tile(hidden, first_matrix());
  return run_.plan.skip ? RowList{} : rows_of(Matrix::down, hidden, whole_row());
}

RowList TileSink::after_down_tile(HiddenRange hidden) {
  if (run_.plan.strategy == Strategy::sign_split || run_.plan.strategy == Strategy::certified) return {};
  if (phase_ == Phase::fused) return next_tile(hidden, first_matrix());
  return run_.plan.skip ? first_rows_of_next_tile(hidden) : next_tile(hidden, Matrix::down);
}

/// unfused with skip: h of all units is known, and so are the first rows of W2 that the next tile wants.
RowList TileSink::first_rows_of_next_tile(HiddenRange hidden) {
  const RowList tile = next_tile(hidden, Matrix::down);
  const index_t batch = run_.problem.batch;
  likely_ = 0;
  for (index_t unit = tile.first; unit < tile.first + tile.row_count && likely_ < kRowsAtOnce; ++unit) {
    const float* const h = run_.workspace.h + unit * batch;
    const bool wanted = std::any_of(h, h + batch, [](float v) { return v != 0.0f; });  // true for NaN
    if (wanted || run_.weights.down_row_nonfinite(unit)) likely_units_[likely_++] = unit;
  }
  return rows_of(Matrix::down, Units{likely_units_, static_cast<std::size_t>(likely_)}, whole_row());
}

// ---- products ----

/// The last K tile of a tile whose result decides which rows are read next. The last few rows come in a call of their own,
/// so that the rows found open among the others are on their way when it ends. (An open unit's row may turn out not to be
/// wanted, and a closed one's wanted: this is a guess at what to prefetch, never at a result.)
void TileSink::dot_then_open_rows(HiddenRange hidden, KRange k) {
  const Matrix matrix = first_matrix();
  const index_t batch = run_.problem.batch;
  const index_t bytes_per_row = rows_of(matrix, Units{}, k).bytes;
  const index_t ahead = ahead_bytes(batch, dtype_bytes(run_.weights.dtype()), run_.shape.d_padded, run_.kernels.tokens_in_registers);
  const index_t last_rows = std::min(hidden.size(), ceil_div(ahead, bytes_per_row));
  const HiddenRange early{hidden.begin, hidden.end - last_rows}, late{hidden.end - last_rows, hidden.end};
  float* const partials = tile_.pre_partials;
  dot(matrix, rows_of(matrix, early, k), k, partials, tile_.pre, nullptr, rows_of(matrix, late, k));
  // No more than are asked for: to look at all units took 1 % of a call from memory at 10 % open.
  const index_t enough = ceil_div(std::max(ahead, kApartBytesAhead), rows_of(matrix, Units{}, whole_row()).bytes);
  const index_t open = with_batch(batch, [&, selected = tile_.selected](auto size) {
    const index_t tokens = count_of(size);
    index_t count = 0;
    for (index_t i = 0; i < early.size() && count < enough; ++i) {
      bool any = false;
      for (index_t b = 0; b < tokens; ++b) any |= is_open(run_.problem.activation, biased(matrix, hidden.begin + i, tile_.pre[i * tokens + b]));
      selected[count] = hidden.begin + i;
      count += any ? 1 : 0;
    }
    return count;
  });
  const Units found{tile_.selected, static_cast<std::size_t>(open)};
  const index_t from = at(early.size(), 0);
  dot(matrix, rows_of(matrix, late, k), k, partials == nullptr ? nullptr : partials + from * kAccumulators,
      tile_.pre + from, nullptr,
      open > 0 ? rows_of(run_.problem.gated ? Matrix::up : Matrix::down, found, whole_row()) : next_tile(hidden, matrix));
}

/// Adds the tile's rows of W2; with skip_zero only those that have something to add, or must not be hidden.
void TileSink::select_and_add(HiddenRange hidden, const float* coefficients, bool skip_zero,
                              const RowList& next) {
  if (!skip_zero && tile_.already_read == nullptr) {
    add_rows(rows_of(Matrix::down, hidden, whole_row()), coefficients, next);
    return;
  }
  index_t* const selected = tile_.selected;
  float* const compact = tile_.compact;
  const index_t count = with_batch(run_.problem.batch, [&, first = hidden.begin, units = hidden.size()](auto size) {
    const index_t batch = count_of(size);
    index_t found = 0;
    for (index_t i = 0; i < units; ++i) {
      bool wanted = !skip_zero || run_.weights.down_row_nonfinite(first + i);
      for (index_t b = 0; b < batch; ++b) {
        const float c = coefficients[i * batch + b];
        wanted |= c != 0.0f;  // true for NaN
        compact[found * batch + b] = c;
      }
      selected[found] = first + i;
      found += wanted ? 1 : 0;  // no branch: at half the units open it would be a guess
    }
    return found;
  });
  for (index_t n = 0; n < count && tile_.already_read != nullptr; ++n) {
    std::uint8_t& already = tile_.already_read[selected[n] - hidden.begin];
    statistics_.bytes_down_again += already != 0 ? row_bytes() : 0;
    already = 1;
  }
  add_rows(rows_of(Matrix::down, Units{tile_.selected, static_cast<std::size_t>(count)}, whole_row()), tile_.compact, next);
}

void TileSink::up_tile(HiddenRange hidden, KRange k) {
  count_tile(hidden);
  const bool split = run_.plan.strategy == Strategy::sign_split, gated = run_.problem.gated;
  if (run_.plan.strategy == Strategy::certified) {
    dot_survivors(hidden, k);
    return;
  }
  if (phase_ == Phase::fused && (!y_begun_ || hidden.begin == units_.begin)) ask_for_y();
  if (split && k.first) std::memset(tile_.already_read, 0, static_cast<std::size_t>(hidden.size()));
  if (!split && k.last && run_.plan.skip && (gated || phase_ == Phase::fused)) {
    dot_then_open_rows(hidden, k);
    return;
  }
  KRange range = k;
  if (split) range.first = range.last = true;  // every K tile is a sum of its own
  const Matrix matrix = first_matrix();
  float* const absolute = run_.plan.variant == Variant::streams ? tile_.absolute : nullptr;
  dot(matrix, rows_of(matrix, hidden, k), range, tile_.pre_partials, tile_.pre, absolute,
      split ? RowList{} : after_first_matrix(hidden, k));
  if (!gated || (run_.plan.skip && !split)) return;
  dot(Matrix::up, rows_of(Matrix::up, hidden, k), range, tile_.up_partials, tile_.up, nullptr,
      split || !k.last ? RowList{} : after_first_product(hidden));
}

void TileSink::down_tile(HiddenRange hidden) {
  count_tile(hidden);
  if (run_.plan.strategy == Strategy::certified) {
    defer_rows(hidden);
    return;
  }
  const std::uint64_t before = statistics_.bytes_down;
  begin_y();
  if (integers()) {
    add_integer_rows(hidden);
  } else {
    select_and_add(hidden, coefficients_, run_.plan.skip, after_down_tile(hidden));
  }
  statistics_.pushed_rows += (statistics_.bytes_down - before) / row_bytes();
}

// ---- one unit and token ----

std::span<const float> TileSink::bias_of(Matrix matrix) const {
  return matrix == Matrix::gate ? run_.weights.gate_bias() : run_.weights.up_bias();
}

float TileSink::biased(Matrix matrix, index_t unit, float sum) const {
  const std::span<const float> bias = bias_of(matrix);
  return bias.empty() ? sum : sum + bias[static_cast<std::size_t>(unit)];
}

/// sums [units, batch] += bias.
void TileSink::add_bias(Matrix matrix, HiddenRange hidden, float* sums) const {
  const std::span<const float> bias = bias_of(matrix);
  if (bias.empty()) return;
  run_.kernels.add_bias(bias.data() + hidden.begin, hidden.size(), run_.problem.batch, sums);
}

bool TileSink::strict(index_t unit, index_t token) const {
  return run_.workspace.x_nonfinite[token] != 0 || run_.weights.input_row_nonfinite(unit);
}

float TileSink::unit_h(index_t unit, index_t token, float pre, float up) const {
  return signsplit::unit_h(run_.problem, pre, up, run_.problem.gated && strict(unit, token));
}

// ---- activation ----

void TileSink::activate(HiddenRange hidden) {
  if (run_.plan.strategy == Strategy::certified) {
    activate_survivors(hidden);
    return;
  }
  const index_t units = hidden.size(), batch = run_.problem.batch;
  const bool gated = run_.problem.gated;
  const bool smooth = is_smooth(run_.problem.activation);
  add_bias(first_matrix(), hidden, tile_.pre);
  const auto activate_unit = [&](index_t i) {
    for (index_t b = 0; b < batch; ++b) {
      const float pre = tile_.pre[at(i, b)], up = tile_.up[at(i, b)];
      tile_.open[at(i, b)] = unit_open(run_.problem.activation, pre, up) ? 1 : 0;
      tile_.coefficients[at(i, b)] = unit_h(hidden.begin + i, b, pre, up);
    }
  };
  if (gated && run_.plan.skip) {
    std::memset(tile_.open, 0, static_cast<std::size_t>(units * batch));
    std::fill_n(tile_.coefficients, units * batch, 0.0f);
    const index_t open = up_rows_of_open_gates(hidden);
    for (index_t s = 0; s < open && !smooth; ++s) activate_unit(tile_.selected[s] - hidden.begin);
  } else if (gated) {
    add_bias(Matrix::up, hidden, tile_.up);
    for (index_t i = 0; i < units && !smooth; ++i) activate_unit(i);
  }
  if (smooth) {
    open_smooth(units * batch);
  } else if (!gated) {
    open_ungated(units * batch);
  }
  coefficients_ = tile_.coefficients;
  finish_units(hidden);
}

/// h of the first `count` pre-activations where the activation closes no unit, by the kernel of the instruction set.
void TileSink::open_smooth(index_t count) {
  std::memset(tile_.open, 1, static_cast<std::size_t>(count));
  smooth_kernel(run_.kernels, run_.problem.activation.kind)(tile_.pre, count, tile_.coefficients);
  if (!run_.problem.gated) return;
  for (index_t i = 0; i < count; ++i) tile_.coefficients[i] *= tile_.up[i];
}

/// Which of the first `count` pre-activations of an ungated FFN are open, and their activations.
void TileSink::open_ungated(index_t count) {
  const Activation a = run_.problem.activation;
  if (closes_units(a)) {
    const float threshold = a.kind == ActivationKind::fatrelu ? a.threshold : 0.0f;
    run_.kernels.open_units({tile_.pre, count, threshold, a.kind == ActivationKind::relu2, tile_.open, tile_.coefficients});
    return;
  }
  std::memset(tile_.open, 1, static_cast<std::size_t>(count));
  std::copy_n(tile_.pre, count, tile_.coefficients);  // identity; the smooth ones: open_smooth()
}

/// The gate came first: where it is closed for every token, the up row is not read. The number of the others, which are `selected`.
index_t TileSink::up_rows_of_open_gates(HiddenRange hidden) {
  const index_t batch = run_.problem.batch;
  const index_t count = with_batch(batch, [&, selected = tile_.selected](auto size) {
    const index_t tokens = count_of(size);
    index_t found = 0;
    for (index_t i = 0; i < hidden.size(); ++i) {
      bool wanted = false;
      for (index_t b = 0; b < tokens; ++b) wanted |= is_open(run_.problem.activation, tile_.pre[i * tokens + b]) || strict(hidden.begin + i, b);
      selected[found] = hidden.begin + i;
      found += wanted ? 1 : 0;
    }
    return found;
  });
  std::fill_n(tile_.up, hidden.size() * batch, 0.0f);
  const Units units{tile_.selected, static_cast<std::size_t>(count)};
  dot(Matrix::up, rows_of(Matrix::up, units, whole_row()), whole_row(), nullptr, tile_.compact, nullptr,
      phase_ == Phase::first_product ? next_tile(hidden, first_matrix()) : rows_of(Matrix::down, units, whole_row()));
  for (index_t s = 0; s < count; ++s) {
    const index_t unit = tile_.selected[s];
    for (index_t b = 0; b < batch; ++b) {
      tile_.up[at(unit - hidden.begin, b)] = biased(Matrix::up, unit, tile_.compact[at(s, b)]);
    }
  }
  return count;
}

/// Counts and reports which units are open.
void TileSink::finish_units(HiddenRange hidden) {
  if (run_.exact_mask && run_.plan.strategy != Strategy::sign_split) {  // which has settled them
    for (index_t i = 0; i < hidden.size(); ++i) {
      for (index_t b = 0; b < run_.problem.batch; ++b) {
        const float up = run_.problem.gated ? tile_.up[at(i, b)] : 0.0f;
        tile_.open[at(i, b)] = counts_as_open(hidden.begin + i, b, tile_.pre[at(i, b)], up) ? 1 : 0;
      }
    }
  }
  const index_t batch = run_.problem.batch;
  OpenCounts counts;
  run_.kernels.count_open(tile_.open, hidden.size(), batch, counts);
  statistics_.active += counts.all;
  statistics_.active_union += counts.of_any_token;
  if (run_.active_mask == nullptr) return;
  for (index_t i = 0; i < hidden.size(); ++i) {
    for (index_t b = 0; b < batch; ++b) run_.active_mask[b * run_.problem.d_ff + hidden.begin + i] = tile_.open[at(i, b)];
  }
}

void TileSink::store_h(HiddenRange hidden) {
  const index_t elems = hidden.size() * run_.problem.batch;
  std::copy_n(coefficients_, elems, run_.workspace.h + hidden.begin * run_.problem.batch);
  statistics_.bytes_h += static_cast<std::uint64_t>(elems) * sizeof(float);
}

void TileSink::load_h(HiddenRange hidden) {
  coefficients_ = run_.workspace.h + hidden.begin * run_.problem.batch;
  statistics_.bytes_h += static_cast<std::uint64_t>(hidden.size() * run_.problem.batch) * sizeof(float);
}

// ---- reduction ----

void TileSink::add_part(index_t into, index_t from) {
  const index_t elems = run_.problem.batch * run_.workspace.y_stride;
  run_.kernels.add_part({run_.workspace.partial_y + into * elems, run_.workspace.partial_y + from * elems, elems});
}

/// What is left when all parts have been added into the first (PartTree).
void TileSink::reduce(ColumnRange columns) {
  const Problem& p = run_.problem;
  statistics_.bytes_y += static_cast<std::uint64_t>(run_.plan.parts * p.batch * columns.size()) * sizeof(float);
  const std::span<const float> bias = run_.weights.down_bias();
  const index_t end = std::min(columns.end, p.d_model);
  if (integers()) find_h_scales();
  for (index_t b = 0; b < p.batch; ++b) {
    const float* sums = run_.workspace.partial_y + b * run_.workspace.y_stride;
    float* y = run_.y + b * p.d_model;
    for (index_t d = columns.begin; d < end; ++d) {
      const float sum = sums[d] + 0.0f;  // -0 becomes +0
      const float scaled = integers() ? sum * tile_.h_scales[b] : sum;
      const float value = bias.empty() ? scaled : scaled + bias[static_cast<std::size_t>(d)];
      y[d] = value == value ? value : std::bit_cast<float>(0x7fc00000u);
    }
  }
}

}  // namespace signsplit::cpu
