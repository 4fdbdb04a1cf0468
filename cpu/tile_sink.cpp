#include "tile_sink.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace signsplit::cpu {

void TileSink::begin_part(index_t part, Phase phase) {
  const index_t elems = run_.problem.batch * run_.shape.d_padded;
  if (phase != Phase::second_product) statistics_.bytes_x += static_cast<std::uint64_t>(elems) * sizeof(float);
  if (phase == Phase::first_product) return;
  y_part_ = run_.workspace.partial_y + part * elems;
  std::memset(y_part_, 0, static_cast<std::size_t>(elems) * sizeof(float));
  statistics_.bytes_y += static_cast<std::uint64_t>(elems) * sizeof(float);
}

// ---- products ----

void TileSink::dot(Matrix matrix, std::span<const index_t> rows, KRange k, float* partials, float* sums,
                   float* absolute_sums) {
  const Weights& w = run_.weights;
  const index_t elem_bytes = dtype_bytes(w.dtype());
  const std::byte* base = matrix == Matrix::gate ? w.gate() : w.up();
  const DotRows args{base + k.begin * elem_bytes,
                     w.row_bytes(),
                     rows.data(),
                     static_cast<index_t>(rows.size()),
                     run_.workspace.x + k.begin,
                     run_.shape.d_padded,
                     run_.problem.batch,
                     k.size(),
                     k.first,
                     k.last,
                     partials,
                     sums,
                     absolute_sums};
  const KernelTable& kernels = run_.kernels;
  if (absolute_sums != nullptr) {
    (w.dtype() == DType::f32 ? kernels.dot_streams_f32 : kernels.dot_streams_bf16)(args);
  } else {
    (w.dtype() == DType::f32 ? kernels.dot_f32 : kernels.dot_bf16)(args);
  }
  const std::uint64_t bytes = rows.size() * static_cast<std::uint64_t>(k.size() * elem_bytes);
  (matrix == Matrix::gate ? statistics_.bytes_gate : statistics_.bytes_up) += bytes;
}

void TileSink::add_rows(std::span<const index_t> rows, const float* coefficients) {
  const Weights& w = run_.weights;
  const AddRows args{w.down(),       w.row_bytes(),      rows.data(),          static_cast<index_t>(rows.size()),
                     coefficients, y_part_, run_.problem.batch, run_.shape.d_padded};
  (w.dtype() == DType::f32 ? run_.kernels.add_f32 : run_.kernels.add_bf16)(args);
  statistics_.bytes_down += rows.size() * row_bytes();
}

/// Adds the tile's rows of W2; with skip_zero only those that have something to add, or must not be hidden.
void TileSink::select_and_add(HiddenRange hidden, const float* coefficients, bool skip_zero) {
  const index_t batch = run_.problem.batch;
  index_t count = 0;
  for (index_t i = 0; i < hidden.size(); ++i) {
    const float* c = coefficients + at(i, 0);
    const index_t unit = hidden.begin + i;
    bool wanted = !skip_zero || run_.weights.down_row_nonfinite(unit);
    for (index_t b = 0; b < batch && !wanted; ++b) wanted = c[b] != 0.0f;  // true for NaN
    if (!wanted) continue;
    tile_.selected[count] = unit;
    std::copy_n(c, batch, tile_.compact + at(count, 0));
    ++count;
    if (tile_.already_read != nullptr) {
      statistics_.bytes_down_again += tile_.already_read[i] != 0 ? row_bytes() : 0;
      tile_.already_read[i] = 1;
    }
  }
  add_rows({tile_.selected, static_cast<std::size_t>(count)}, tile_.compact);
}

void TileSink::up_tile(HiddenRange hidden, KRange k) {
  const bool split = run_.plan.strategy == Strategy::sign_split;
  if (k.first) {
    for (index_t i = 0; i < hidden.size(); ++i) tile_.rows[i] = hidden.begin + i;
    if (split) std::memset(tile_.already_read, 0, static_cast<std::size_t>(hidden.size()));
  }
  const std::span<const index_t> rows{tile_.rows, static_cast<std::size_t>(hidden.size())};
  KRange range = k;
  if (split) range.first = range.last = true;  // every K tile is a sum of its own
  ++statistics_.tiles;
  if (!run_.problem.gated) {
    dot(Matrix::up, rows, range, tile_.pre_partials, tile_.pre,
        run_.plan.variant == Variant::streams ? tile_.absolute : nullptr);
    return;
  }
  dot(Matrix::gate, rows, range, tile_.pre_partials, tile_.pre, nullptr);
  if (split || !run_.plan.skip) dot(Matrix::up, rows, range, tile_.up_partials, tile_.up, nullptr);
}

void TileSink::down_tile(HiddenRange hidden) {
  ++statistics_.tiles;
  const std::uint64_t before = statistics_.bytes_down;
  select_and_add(hidden, coefficients_, run_.plan.skip);
  statistics_.pushed_rows += (statistics_.bytes_down - before) / row_bytes();
}

// ---- one unit and token ----

float TileSink::biased(Matrix matrix, index_t unit, float sum) const {
  const std::span<const float> bias = matrix == Matrix::gate ? run_.weights.gate_bias() : run_.weights.up_bias();
  return bias.empty() ? sum : sum + bias[static_cast<std::size_t>(unit)];
}

bool TileSink::strict(index_t unit, index_t token) const {
  return run_.workspace.x_nonfinite[token] != 0 || run_.weights.input_row_nonfinite(unit);
}

bool TileSink::unit_open(float pre, float up) const {
  const Activation a = run_.problem.activation;
  return is_open(a, pre) && (a.kind != ActivationKind::drelu || !(up <= 0.0f));
}

float TileSink::unit_h(index_t unit, index_t token, float pre, float up) const {
  const Activation a = run_.problem.activation;
  return run_.problem.gated ? activate_gated(a, pre, up, strict(unit, token)) : signsplit::activate(a, pre);
}

// ---- activation ----

void TileSink::activate(HiddenRange hidden) {
  const index_t units = hidden.size(), batch = run_.problem.batch;
  const bool gated = run_.problem.gated;
  const Matrix first = gated ? Matrix::gate : Matrix::up;
  for (index_t i = 0; i < units; ++i) {
    for (index_t b = 0; b < batch; ++b) tile_.pre[at(i, b)] = biased(first, hidden.begin + i, tile_.pre[at(i, b)]);
  }
  if (gated && !run_.plan.skip) {
    for (index_t i = 0; i < units; ++i) {
      for (index_t b = 0; b < batch; ++b) tile_.up[at(i, b)] = biased(Matrix::up, hidden.begin + i, tile_.up[at(i, b)]);
    }
  } else if (gated) {  // the gate first: where it is closed for every token, the up row is not read
    index_t count = 0;
    for (index_t i = 0; i < units; ++i) {
      const index_t unit = hidden.begin + i;
      bool wanted = false;
      for (index_t b = 0; b < batch; ++b) {
        tile_.up[at(i, b)] = 0.0f;
        wanted |= is_open(run_.problem.activation, tile_.pre[at(i, b)]) || strict(unit, b);
      }
      if (wanted) tile_.selected[count++] = unit;
    }
    dot(Matrix::up, {tile_.selected, static_cast<std::size_t>(count)}, {0, run_.shape.d_padded, true, true}, nullptr,
        tile_.compact, nullptr);
    for (index_t s = 0; s < count; ++s) {
      const index_t unit = tile_.selected[s];
      for (index_t b = 0; b < batch; ++b) {
        tile_.up[at(unit - hidden.begin, b)] = biased(Matrix::up, unit, tile_.compact[at(s, b)]);
      }
    }
  }
  for (index_t i = 0; i < units; ++i) {
    for (index_t b = 0; b < batch; ++b) {
      const float pre = tile_.pre[at(i, b)], up = gated ? tile_.up[at(i, b)] : 0.0f;
      tile_.open[at(i, b)] = unit_open(pre, up) ? 1 : 0;
      tile_.coefficients[at(i, b)] = unit_h(hidden.begin + i, b, pre, up);
    }
  }
  coefficients_ = tile_.coefficients;
  finish_units(hidden);
}

/// Counts and reports which units are open.
void TileSink::finish_units(HiddenRange hidden) {
  for (index_t i = 0; i < hidden.size(); ++i) {
    bool any = false;
    for (index_t b = 0; b < run_.problem.batch; ++b) {
      const bool open = tile_.open[at(i, b)] != 0;
      any |= open;
      statistics_.active += open ? 1 : 0;
      if (run_.active_mask != nullptr) {
        run_.active_mask[b * run_.problem.d_ff + hidden.begin + i] = open ? 1 : 0;
      }
    }
    statistics_.active_union += any ? 1 : 0;
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

void TileSink::reduce(ColumnRange columns) {
  const Problem& p = run_.problem;
  run_.kernels.reduce({run_.workspace.partial_y, run_.plan.parts, p.batch, run_.shape.d_padded, columns.begin, columns.end});
  statistics_.bytes_y += static_cast<std::uint64_t>(run_.plan.parts * p.batch * columns.size()) * sizeof(float);
  const std::span<const float> bias = run_.weights.down_bias();
  const index_t end = std::min(columns.end, p.d_model);
  for (index_t b = 0; b < p.batch; ++b) {
    const float* sum = run_.workspace.partial_y + b * run_.shape.d_padded;
    float* y = run_.y + b * p.d_model;
    for (index_t d = columns.begin; d < end; ++d) {
      const float value = bias.empty() ? sum[d] : sum[d] + bias[static_cast<std::size_t>(d)];
      y[d] = value == value ? value : std::bit_cast<float>(0x7fc00000u);
    }
  }
}

}  // namespace signsplit::cpu
