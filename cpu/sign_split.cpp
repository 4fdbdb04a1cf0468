// The sign split: what is pushed for an interim result, and how the pushes are repaired (docs/sign-split.md).
#include <algorithm>
#include <cmath>

#include "tile_sink.hpp"

namespace signsplit::cpu {

// ---- push ----

void TileSink::push(HiddenRange hidden, KRange k) {
  const index_t batch = run_.problem.batch;
  const std::size_t values = static_cast<std::size_t>(hidden.size() * batch);
  if (k.first) {
    for (float* state : {tile_.positive, tile_.negative, tile_.pushed}) std::fill_n(state, values, 0.0f);
    for (index_t i = 0; i < hidden.size(); ++i) {
      for (index_t b = 0; b < batch; ++b) tile_.stopped[at(i, b)] = strict(hidden.begin + i, b) ? 1 : 0;
    }
  }
  for (index_t i = 0; i < hidden.size(); ++i) {
    for (index_t b = 0; b < batch; ++b) {
      float& c = tile_.coefficients[at(i, b)];
      c = tile_.stopped[at(i, b)] != 0 ? 0.0f : push_one(hidden.begin + i, at(i, b), k.first);
      if (!is_finite(c)) {  // the streams overflow where z need not: the unit is redone at the end of the tile
        c = 0.0f;
        tile_.stopped[at(i, b)] = 1;
      }
    }
  }
  coefficients_ = tile_.coefficients;
}

/// The coefficient that the K tile just summed contributes; updates the unit's streams. The bias belongs to the first
/// tile. Not finite: the unit cannot be split any further.
float TileSink::push_one(index_t unit, index_t at, bool first) {
  const bool gated = run_.problem.gated;
  float z = tile_.pre[at], up = gated ? tile_.up[at] : 0.0f;
  float absolute = run_.plan.variant == Variant::streams ? tile_.absolute[at] : 0.0f;
  if (first) {
    z = biased(first_matrix(), unit, z);
    if (gated) up = biased(Matrix::up, unit, up);
    if (!bias_of(Matrix::up).empty()) absolute += std::fabs(bias_of(Matrix::up)[static_cast<std::size_t>(unit)]);
  }
  SplitUnit split = split_unit(at);
  const float c = push_coefficient(run_.plan, run_.problem, split, z, up, absolute);
  tile_.positive[at] = split.positive;
  tile_.negative[at] = split.negative;
  tile_.pushed[at] = split.pushed;
  return c;
}

// ---- correct ----

void TileSink::correct(HiddenRange hidden) {
  const index_t batch = run_.problem.batch;
  index_t redo_count = 0;
  for (index_t i = 0; i < hidden.size(); ++i) {
    bool redo_row = false;
    for (index_t b = 0; b < batch; ++b) {
      const bool stopped = tile_.stopped[at(i, b)] != 0;
      const Correction correction = stopped ? Correction{0.0f, true} : correct_one(hidden.begin + i, b, at(i, b));
      tile_.coefficients[at(i, b)] = correction.c;
      tile_.stopped[at(i, b)] = correction.redo ? 1 : 0;
      redo_row |= correction.redo;
    }
    if (redo_row) tile_.selected[redo_count++] = hidden.begin + i;
  }
  if (redo_count > 0) redo_rows({tile_.selected, static_cast<std::size_t>(redo_count)}, hidden.begin);
  finish_units(hidden);

  bool any = run_.plan.repair == Repair::full;
  const float* c = tile_.coefficients;
  for (index_t v = 0; v < hidden.size() * batch && !any; ++v) any = c[v] != 0.0f;
  if (!any) return;
  const std::uint64_t before = statistics_.bytes_down;
  select_and_add(hidden, c, run_.plan.repair != Repair::full);
  statistics_.repaired += (statistics_.bytes_down - before) / row_bytes();
}

/// h − u of one unit and token, and in tile_.open whether the unit is open.
Correction TileSink::correct_one(index_t unit, index_t token, index_t at) {
  const SplitUnit split = split_unit(at);
  const float z = split_pre(run_.plan, split), up = split_up(run_.problem, split);
  const bool open = unit_open(run_.problem.activation, z, up), doubt = in_doubt(unit, token, z, up);
  tile_.open[at] = open ? 1 : 0;
  if (doubt) {
    const Settled exact = settle(unit, token);
    tile_.open[at] = exact.open ? 1 : 0;
    if (exact.open != open) return settled_correction(run_.plan, run_.problem, split, exact.open, exact.pre, exact.up);
  }
  return correction(run_.plan, run_.problem, split, open, doubt);
}

/// Recomputes rows in canonical order, and makes h − u the correction of every (unit, token) marked in `stopped`.
void TileSink::redo_rows(Units units, index_t first_unit) {
  const index_t batch = run_.problem.batch;
  const bool gated = run_.problem.gated;
  dot(first_matrix(), rows_of(first_matrix(), units, whole_row()), whole_row(), nullptr, tile_.pre, nullptr);
  if (gated) dot(Matrix::up, rows_of(Matrix::up, units, whole_row()), whole_row(), nullptr, tile_.up, nullptr);
  statistics_.redone += units.size();
  statistics_.bytes_up_again += units.size() * row_bytes() * (gated ? 2u : 1u);
  for (std::size_t s = 0; s < units.size(); ++s) {
    const index_t unit = units[s];
    for (index_t b = 0; b < batch; ++b) {
      const index_t to = at(unit - first_unit, b), from = at(static_cast<index_t>(s), b);
      if (tile_.stopped[to] == 0) continue;
      const float pre = biased(gated ? Matrix::gate : Matrix::up, unit, tile_.pre[from]);
      const float up = gated ? biased(Matrix::up, unit, tile_.up[from]) : 0.0f;
      tile_.open[to] = unit_open(run_.problem.activation, pre, up) ? 1 : 0;
      tile_.coefficients[to] = unit_h(unit, b, pre, up) - tile_.pushed[to];
    }
  }
}

}  // namespace signsplit::cpu
