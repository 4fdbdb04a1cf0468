// w8a8: x and h as int8 with one scale per token, integer sums, and the scales applied at the end of each group
// (docs/exactness.md). The K tiles of a plan change nothing: integers have no order.
#include "w8a8.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tile_sink.hpp"

namespace signsplit::cpu {
namespace {

constexpr float kLargest = 127.0f;

/// fl(v / scale) to the nearest integer, ties to even, in [−127, 127]; 0 unless scale > 0. Adding and subtracting 1.5·2^23
/// rounds values this small to an integer.
float nearest_integer(float v, float scale) {
  const float ratio = std::min(std::max(v / scale, -kLargest), kLargest);
  return scale > 0.0f ? (ratio + 0x1.8p23f) - 0x1.8p23f : 0.0f;
}

}  // namespace

float integer_scale(const float* values, index_t count, index_t stride) {
  float largest = 0.0f;
  bool finite = true;
  for (index_t i = 0; i < count; ++i) {
    const float magnitude = std::fabs(values[i * stride]);
    largest = magnitude > largest ? magnitude : largest;
    finite &= magnitude <= std::numeric_limits<float>::max();
  }
  return finite ? largest / kLargest : std::numeric_limits<float>::quiet_NaN();
}

void load_integer_x(const Weights& weights, index_t batch, Workspace& workspace) {
  const index_t elems = weights.stride(), groups = weights.input_groups(), group = weights.group() == 0 ? elems : weights.group();
  for (index_t b = 0; b < batch; ++b) {
    const float* x = workspace.x + b * elems;
    signed char* q = workspace.x_integers + b * elems;
    const float scale = workspace.x_scales[b] = integer_scale(x, elems, 1);
    for (index_t k = 0; k < elems; ++k) q[k] = static_cast<signed char>(nearest_integer(x[k], scale));
    for (index_t g = 0; g < groups; ++g) {
      std::int32_t sum = 0;
      for (index_t k = g * group; k < std::min(elems, (g + 1) * group); ++k) sum += q[k];
      workspace.x_sums[b * groups + g] = sum;
    }
  }
}

/// The sums of whole rows, scaled: what dot() leaves for f32.
void TileSink::dot_integers(Matrix matrix, RowList rows, KRange k, float* sums, const RowList& next) {
  const Weights& w = run_.weights;
  const Workspace& space = run_.workspace;
  const index_t batch = run_.problem.batch;
  rows.matrix = static_cast<const std::byte*>(rows.matrix) - k.begin;
  rows.bytes = w.row_bytes();
  const std::span<const bf16> scales = matrix == Matrix::gate ? w.gate_scales() : w.up_scales();
  run_.integers->dot({rows, next, announce(rows, next), space.x_integers, space.x_sums, batch, run_.shape.d_padded,
                      &scales.data()->bits, w.input_groups(), w.group(), sums});
  for (index_t i = 0; i < rows.row_count; ++i) {
    for (index_t b = 0; b < batch; ++b) sums[at(i, b)] *= space.x_scales[b];
  }
}

/// The scale of a token's h is known when all of h is: each worker computes them, once, when it needs them.
void TileSink::find_h_scales() {
  if (h_scales_found_) return;
  const index_t batch = run_.problem.batch;
  for (index_t b = 0; b < batch; ++b) tile_.h_scales[b] = integer_scale(run_.workspace.h + b, run_.problem.d_ff, batch);
  h_scales_found_ = true;
}

void TileSink::begin_integer_part() {
  find_h_scales();
  std::memset(tile_.integer_sums, 0, static_cast<std::size_t>(run_.problem.batch * run_.shape.d_padded) * sizeof(std::int32_t));
}

/// Adds the tile's rows of W2, group by group of scales. With skip, rows whose integers are all 0 are not read.
void TileSink::add_integer_rows(HiddenRange hidden) {
  const index_t group = run_.weights.group();
  for (HiddenRange units = hidden; units.begin < hidden.end; units.begin = units.end) {
    units.end = group == 0 ? hidden.end : std::min(hidden.end, (units.begin / group + 1) * group);
    add_integer_group(units);
    if (units.end == units_.end || (group != 0 && units.end % group == 0)) scale_integer_sums(units.end - 1);
  }
}

void TileSink::add_integer_group(HiddenRange units) {
  const index_t batch = run_.problem.batch;
  const float* h = run_.workspace.h + units.begin * batch;
  index_t count = 0;
  for (index_t i = 0; i < units.size(); ++i) {
    bool wanted = !run_.plan.skip;
    std::int16_t* const q = tile_.integers + at(count, 0);
    for (index_t b = 0; b < batch; ++b) {
      q[b] = static_cast<std::int16_t>(nearest_integer(h[at(i, b)], tile_.h_scales[b]));
      wanted |= q[b] != 0;
    }
    tile_.selected[count] = units.begin + i;
    count += wanted ? 1 : 0;
  }
  if (count == 0) return;
  const RowList rows = rows_of(Matrix::down, Units{tile_.selected, static_cast<std::size_t>(count)}, whole_row());
  const RowList next = run_.plan.skip ? RowList{} : next_tile(units, Matrix::down);
  run_.integers->add({rows, next, announce(rows, next), tile_.integers, tile_.integer_sums, batch, run_.shape.d_padded});
  statistics_.bytes_down += static_cast<std::uint64_t>(count) * row_bytes();
}

/// The sums so far, of the group of `unit`, into y.
void TileSink::scale_integer_sums(index_t unit) {
  const Weights& w = run_.weights;
  const index_t row = w.group() == 0 ? 0 : unit / w.group();
  run_.integers->scale({tile_.integer_sums, &w.down_scales().data()->bits + row * w.stride(), y_part_, run_.workspace.y_stride,
                        run_.problem.batch, run_.shape.d_padded});
}

}  // namespace signsplit::cpu
