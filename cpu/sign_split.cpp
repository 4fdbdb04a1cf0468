// The sign split: what is pushed for an interim result, and how the pushes are repaired (docs/sign-split.md).
#include <algorithm>
#include <cmath>
#include <cstring>

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
      c = tile_.stopped[at(i, b)] != 0 ? 0.0f : push_coefficient(hidden.begin + i, b, at(i, b), k.first);
      if (!std::isfinite(c)) {  // the streams overflow where z need not: the unit is redone at the end of the tile
        c = 0.0f;
        tile_.stopped[at(i, b)] = 1;
      }
    }
  }
  coefficients_ = tile_.coefficients;
}

/// The coefficient that the K tile just summed contributes; updates the unit's streams. The bias belongs to the first
/// tile. Not finite: the unit cannot be split any further.
float TileSink::push_coefficient(index_t unit, index_t token, index_t at, bool first) {
  const Activation a = run_.problem.activation;
  const bool gated = run_.problem.gated;
  float z = tile_.pre[at];
  if (first) z = biased(gated ? Matrix::gate : Matrix::up, unit, z);
  float& positive = tile_.positive[at];
  float& negative = tile_.negative[at];
  float& pushed = tile_.pushed[at];
  if (!std::isfinite(z)) return z;

  switch (run_.plan.variant) {
    case Variant::telescoping: {
      float u = gated ? tile_.up[at] : 0.0f;
      if (gated && first) u = biased(Matrix::up, unit, u);
      positive += z;
      negative += u;
      const float h = unit_h(unit, token, positive, negative), c = h - pushed;
      if (!std::isfinite(positive) || !std::isfinite(negative) || !std::isfinite(c)) return INFINITY;
      pushed = h;
      return c;
    }
    case Variant::streams: {
      float s = tile_.absolute[at];
      if (first && !run_.weights.up_bias().empty()) s += std::fabs(run_.weights.up_bias()[static_cast<std::size_t>(unit)]);
      const float p = std::max(0.5f * (s + z), 0.0f);
      positive += p;
      negative += z - p;
      return count_push(at, signsplit::activate(a, p));
    }
    case Variant::interim:
    case Variant::ignore:
    case Variant::none: break;
  }
  positive += std::max(z, 0.0f);
  negative += std::min(z, 0.0f);
  return count_push(at, signsplit::activate(a, z));
}

/// Adds c to what was pushed for the unit and returns it; infinity, and nothing added, once a stream has overflowed.
float TileSink::count_push(index_t at, float c) {
  const float total = tile_.pushed[at] + c;
  if (!std::isfinite(tile_.positive[at]) || !std::isfinite(tile_.negative[at]) || !std::isfinite(total)) return INFINITY;
  tile_.pushed[at] = total;
  return c;
}

// ---- correct ----

void TileSink::correct(HiddenRange hidden) {
  const index_t batch = run_.problem.batch;
  index_t redo_count = 0;
  for (index_t i = 0; i < hidden.size(); ++i) {
    bool redo_row = false;
    for (index_t b = 0; b < batch; ++b) {
      bool redo = tile_.stopped[at(i, b)] != 0;
      float c = 0.0f;
      if (!redo) c = correction(hidden.begin + i, b, at(i, b), redo);
      tile_.coefficients[at(i, b)] = c;
      tile_.stopped[at(i, b)] = redo ? 1 : 0;
      redo_row |= redo;
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

/// h − u of one unit and token, and whether the unit is open. Sets `redo` when the unit is to be computed again instead.
float TileSink::correction(index_t unit, index_t token, index_t at, bool& redo) {
  const Plan& plan = run_.plan;
  const Activation a = run_.problem.activation;
  const bool telescoping = plan.variant == Variant::telescoping, gated = run_.problem.gated;
  const float z = telescoping ? tile_.positive[at] : tile_.positive[at] + tile_.negative[at];
  const float up = gated ? tile_.negative[at] : 0.0f;
  const bool open = unit_open(z, up);
  tile_.open[at] = open ? 1 : 0;

  const bool doubt = in_doubt(unit, token, z, up);
  if (doubt) {
    const Settled exact = settle(unit, token);
    if (exact.open != open) {
      tile_.open[at] = exact.open ? 1 : 0;
      const float h = exact.open ? unit_h(unit, token, exact.pre, exact.up) : 0.0f;
      return plan.variant == Variant::ignore ? 0.0f : h - tile_.pushed[at];
    }
  }
  if (telescoping || plan.variant == Variant::ignore) return 0.0f;
  if (a.kind == ActivationKind::identity && plan.variant == Variant::interim) return 0.0f;  // the tiles are the parts of z

  const bool additive = a.kind == ActivationKind::relu || a.kind == ActivationKind::identity;
  const float c = additive ? (open ? tile_.negative[at] : -tile_.positive[at])
                           : (open ? signsplit::activate(a, z) : 0.0f) - tile_.pushed[at];
  redo = plan.repair == Repair::redo && c != 0.0f && !doubt;  // what the exact sum settled stays settled
  return c;
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
      tile_.open[to] = unit_open(pre, up) ? 1 : 0;
      tile_.coefficients[to] = unit_h(unit, b, pre, up) - tile_.pushed[to];
    }
  }
}

}  // namespace signsplit::cpu
