// The certified strategy: a cheap plane of the first matrix proves most closed units closed, and only the others' rows are
// read (docs/certificate.md).
//
// Each kind of bytes (plane, rows of the first matrix, rows of W2) is read nearly as fast as the memory gives it, so time is lost
// where one kind follows another. There the last of one asks for the first of the other, which must be known by then: the
// first survivors are, before the tile's plane is done; rows of W2 wait until the next tile's survivors are computed. Rows that lie
// apart are read four at a time (apart_rows.hpp).
#include <algorithm>
#include <bit>

#include "signsplit/certificate.hpp"
#include "tile_sink.hpp"

namespace signsplit::cpu {

/// Asks for what is read after the plane. Inlined by force: GCC drops the call of a function that only prefetches.
__attribute__((always_inline)) inline void TileSink::ask_for_first_survivors() const {
  const Units first{tile_.survivors, static_cast<std::size_t>(std::min(survivors_, kRowsAtOnce))};
  const RowList rows = run_.residual != nullptr ? residual_rows(first) : rows_of(first_matrix(), first, whole_row());
  for (const index_t unit : first) {
    const char* row = static_cast<const char*>(rows.matrix) + unit * rows.row_bytes;
    for (index_t at = 0; at < std::min(kPieceBytes, rows.bytes); at += 64) __builtin_prefetch(row + at, 0, 3);
  }
}

/// What the next survivor's row is judged with again.
void TileSink::keep_bounds(index_t unit) {
  const index_t borders = k_tile_count(run_.plan, run_.shape) - 1;
  for (index_t n = 0; n < borders; ++n) tile_.remains[survivors_ * borders + n] = tile_.panel_remains[n * kPanelRows + unit % kPanelRows];
  tile_.offsets[survivors_] = run_.certificate->offset_at(unit);
  tile_.places[survivors_] = static_cast<std::uint32_t>(survivors_);
}

/// Finds the tile's survivors.
void TileSink::certify(HiddenRange hidden) {
  const Certificate& c = *run_.certificate;
  const index_t first = first_panel(hidden.begin), panels = panels_spanned(hidden.begin, hidden.end);
  const index_t tile_groups = judges_again_ ? run_.plan.k_tile / run_.plan.plane_group : 0;
  CertifyPanel a{nullptr,       c.layout(),         run_.workspace.x_tokens, run_.problem.batch,
                 c.threshold(), tile_.certify_sums, tile_groups,             tile_.panel_remains};
  survivors_ = likely_ = 0;
  for (index_t p = first; p < first + panels; ++p) {
    a.panel = reinterpret_cast<const unsigned char*>(c.panel(p));
    if (p + 1 == first + panels) ask_for_first_survivors();
    const PanelVerdict verdict = run_.certify(a);
    const index_t before = survivors_;
    for (auto left = static_cast<unsigned>(static_cast<std::uint16_t>(~verdict.certified)); left != 0; left &= left - 1) {
      const index_t unit = p * kPanelRows + std::countr_zero(left);
      if (unit < hidden.begin || unit >= hidden.end) continue;
      if (judges_again_) keep_bounds(unit);
      if ((verdict.likely >> (unit % kPanelRows) & 1) != 0 && likely_ < kRowsAtOnce) likely_units_[likely_++] = unit;
      tile_.survivors[survivors_++] = unit;
    }
    if (run_.residual != nullptr && survivors_ > before) keep_planes(p, before);
  }
  statistics_.refined += static_cast<std::uint64_t>(survivors_);
  statistics_.certified += static_cast<std::uint64_t>(hidden.size() - survivors_);
  statistics_.bytes_plane += static_cast<std::uint64_t>(panels * c.layout().bytes());
}

/// The canonical sums of the survivors, in their order; then the rows of W2 that the tile before has left. Rows that are judged again
/// come by K tiles, and those that are proven closed by their sums so far are dropped between two. (What comes after a K tile is
/// asked for as if none were.)
void TileSink::dot_survivors(HiddenRange hidden, KRange k) {
  if (!judges_again_) {
    if (!k.first) return;
    k = whole_row();
  }
  if (!k.first) drop_closed(k.begin / run_.plan.k_tile - 1);
  const Units survivors{tile_.survivors, static_cast<std::size_t>(survivors_)};
  const Units deferred{tile_.deferred, static_cast<std::size_t>(deferred_)};
  const RowList then = after_survivors(hidden);
  const RowList after = !k.last ? rows_of(first_matrix(), survivors, {k.end, std::min(k.end + k.size(), run_.shape.d_padded)})
                        : deferred_ > 0 ? rows_of(Matrix::down, deferred, whole_row())
                                        : then;
  if (!y_begun_ || hidden.begin == units_.begin) ask_for_y();
  if (run_.residual != nullptr) {
    dot_restored(survivors, after);
  } else {
    dot(first_matrix(), rows_of(first_matrix(), survivors, k), k, tile_.pre_partials, tile_.pre, nullptr, after);
  }
  if (!k.last) return;
  if (deferred_ > 0) begin_y();
  add_rows(rows_of(Matrix::down, deferred, whole_row()), tile_.deferred_coefficients, then);
  deferred_ = 0;
}

/// Drops the survivors whose sums before border n between K tiles, and what remains, stay below the threshold.
void TileSink::drop_closed(index_t n) {
  const index_t borders = k_tile_count(run_.plan, run_.shape) - 1;
  const float threshold = run_.certificate->threshold();
  index_t kept = 0;
  for (index_t s = 0; s < survivors_; ++s) {
    const std::uint32_t place = tile_.places[s];
    const float upper = tile_.pre[s] + tile_.remains[static_cast<index_t>(place) * borders + n];
    tile_.survivors[kept] = tile_.survivors[s];
    tile_.places[kept] = place;
    kept += is_certified(upper, tile_.offsets[place], threshold) ? 0 : 1;  // no branch: it would be a guess
  }
  survivors_ = kept;
}

/// The first bytes of the plane of the tile that follows: of the layer's last tile, none.
RowList TileSink::plane_after(HiddenRange hidden) const {
  const Certificate& c = *run_.certificate;
  const index_t begin = hidden.end < units_.end ? hidden.end : following_;
  if (begin >= run_.shape.d_ff) return {};
  return {c.panel(first_panel(begin)), 0, std::min(kPlaneAheadBytes, c.layout().tail_offset()), nullptr, 0, 1};
}

/// What is read when the survivors' sums are known, and before those are: rows of units that the plane holds for open, which it seldom
/// does in vain, or the plane of the next tile.
RowList TileSink::after_survivors(HiddenRange hidden) const {
  const Units likely{likely_units_, static_cast<std::size_t>(likely_)};
  if (likely_ > 0 && run_.problem.gated) return rows_of(Matrix::up, likely, whole_row());
  return likely_ > 0 && hidden.end >= units_.end ? rows_of(Matrix::down, likely, whole_row()) : plane_after(hidden);
}

void TileSink::add_bias_of_survivors() {
  const std::span<const float> bias = bias_of(first_matrix());
  if (bias.empty()) return;
  for (index_t s = 0; s < survivors_; ++s) {
    const float value = bias[static_cast<std::size_t>(tile_.survivors[s])];
    for (index_t b = 0; b < run_.problem.batch; ++b) tile_.pre[at(s, b)] += value;
  }
}

/// h of the survivors; all other units of the tile are closed. (Without branches: half of the survivors are open, any half.)
void TileSink::activate_survivors(HiddenRange hidden) {
  const index_t batch = run_.problem.batch, units = run_.problem.d_ff;
  add_bias_of_survivors();
  run_.problem.gated ? open_gated_survivors(hidden) : open_ungated(survivors_ * batch);
  for (index_t b = 0; b < batch && run_.active_mask != nullptr; ++b) {
    std::fill_n(run_.active_mask + b * units + hidden.begin, hidden.size(), std::uint8_t{0});
  }
  for (index_t s = 0; s < survivors_; ++s) {
    const index_t unit = tile_.survivors[s];
    std::uint8_t any = 0;
    for (index_t b = 0; b < batch; ++b) {
      std::uint8_t& open = tile_.open[at(s, b)];
      if (run_.exact_mask) open = counts_as_open(unit, b, tile_.pre[at(s, b)], run_.problem.gated ? tile_.up[at(s, b)] : 0.0f) ? 1 : 0;
      any |= open;
      statistics_.active += open;
      if (run_.active_mask != nullptr) run_.active_mask[b * units + unit] = open;
    }
    statistics_.active_union += any;
  }
}

/// Their up values, which open and in what measure.
void TileSink::open_gated_survivors(HiddenRange hidden) {
  up_sums_of_open_survivors(hidden);
  for (index_t s = 0; s < survivors_; ++s) {
    const index_t unit = tile_.survivors[s];
    for (index_t b = 0; b < run_.problem.batch; ++b) {
      float& up = tile_.up[at(s, b)];
      up = biased(Matrix::up, unit, up);
      tile_.open[at(s, b)] = unit_open(run_.problem.activation, tile_.pre[at(s, b)], up) ? 1 : 0;
      tile_.coefficients[at(s, b)] = unit_h(unit, b, tile_.pre[at(s, b)], up);
    }
  }
}

/// The up rows of the survivors whose gate is open for some token, or must not be hidden; 0 for the others.
void TileSink::up_sums_of_open_survivors(HiddenRange hidden) {
  const index_t batch = run_.problem.batch;
  index_t count = 0;
  for (index_t s = 0; s < survivors_; ++s) {
    const index_t unit = tile_.survivors[s];
    bool any = false;
    for (index_t b = 0; b < batch; ++b) {
      tile_.up[at(s, b)] = 0.0f;
      any |= is_open(run_.problem.activation, tile_.pre[at(s, b)]) || strict(unit, b);
    }
    if (any) tile_.selected[count++] = unit;
  }
  const Units wanted{tile_.selected, static_cast<std::size_t>(count)};
  dot(Matrix::up, rows_of(Matrix::up, wanted, whole_row()), whole_row(), nullptr, tile_.compact, nullptr,
      hidden.end < units_.end ? plane_after(hidden) : rows_of(Matrix::down, wanted, whole_row()));
  for (index_t s = 0, found = 0; found < count; ++s) {
    if (tile_.survivors[s] != tile_.selected[found]) continue;
    std::copy_n(tile_.compact + at(found, 0), batch, tile_.up + at(s, 0));
    ++found;
  }
}

/// The rows of W2 that have something to add, or must not be hidden: after the next tile's survivors; of the part's last tile,
/// now.
void TileSink::defer_rows(HiddenRange hidden) {
  const index_t batch = run_.problem.batch;
  for (index_t s = 0; s < survivors_; ++s) {
    const float* c = tile_.coefficients + at(s, 0);
    float* const kept = tile_.deferred_coefficients + at(deferred_, 0);
    bool wanted = run_.weights.down_row_nonfinite(tile_.survivors[s]);
    for (index_t b = 0; b < batch; ++b) {
      wanted |= c[b] != 0.0f;  // true for NaN
      kept[b] = c[b];
    }
    tile_.deferred[deferred_] = tile_.survivors[s];
    deferred_ += wanted ? 1 : 0;
  }
  statistics_.pushed_rows += static_cast<std::uint64_t>(deferred_);
  if (hidden.end < units_.end) return;
  begin_y();
  const Units deferred{tile_.deferred, static_cast<std::size_t>(deferred_)};
  add_rows(rows_of(Matrix::down, deferred, whole_row()), tile_.deferred_coefficients, plane_after(hidden));
  deferred_ = 0;
}

}  // namespace signsplit::cpu
