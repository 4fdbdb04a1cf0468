// The certified strategy: a cheap plane of the first matrix proves most closed units closed, and only the others' rows are
// read (docs/certificate.md).
//
// Each kind of bytes (plane, rows of the first matrix, rows of W2) is read as fast as the memory gives it, so time is lost only where
// one kind follows another. There the last of one asks for the first of the other, which must be known by then: the first
// survivors are, before the tile's plane is done; rows of W2 wait until the next tile's survivors are computed. What did worse
// (2-core Zen 5 virtual machine, 4096x16384 in bfloat16 from DRAM, share of the read bandwidth): asking for the survivors' rows while
// the plane is read, which leaves the memory idle while they are computed from the cache (0.78); the same, and the plane of the tile
// after the next asked for meanwhile (0.71); a slice of the plane of the next tile between any two rows (0.70); short tiles (128
// units 0.84, 512 units 0.88).
#include <algorithm>
#include <bit>

#include "signsplit/certificate.hpp"
#include "tile_sink.hpp"

namespace signsplit::cpu {

/// Finds the tile's survivors.
void TileSink::certify(HiddenRange hidden) {
  const Certificate& c = *run_.certificate;
  const index_t first = first_panel(hidden.begin), panels = panels_spanned(hidden.begin, hidden.end);
  CertifyPanel a{nullptr, c.layout(), run_.workspace.x_tokens, run_.problem.batch, c.threshold(), tile_.certify_sums, nullptr, 0};
  survivors_ = 0;
  for (index_t p = first; p < first + panels; ++p) {
    a.panel = reinterpret_cast<const unsigned char*>(c.panel(p));
    if (p + 1 == first + panels && survivors_ > 0) ask_for_first_survivor(a);
    const PanelVerdict verdict = run_.certify(a);
    for (auto left = static_cast<unsigned>(static_cast<std::uint16_t>(~verdict.certified)); left != 0; left &= left - 1) {
      const index_t unit = p * kPanelRows + std::countr_zero(left);
      if (unit >= hidden.begin && unit < hidden.end) tile_.survivors[survivors_++] = unit;
    }
  }
  statistics_.refined += static_cast<std::uint64_t>(survivors_);
  statistics_.certified += static_cast<std::uint64_t>(hidden.size() - survivors_);
  statistics_.bytes_plane += static_cast<std::uint64_t>(panels * c.layout().bytes());
}

/// Lets the tile's last panel ask for the first row that is read after it.
void TileSink::ask_for_first_survivor(CertifyPanel& a) {
  const RowList row = rows_of(first_matrix(), {tile_.survivors, 1}, whole_row());
  a.ahead = static_cast<const unsigned char*>(row.matrix) + row.rows[0] * row.row_bytes;
  a.ahead_bytes = std::min(row.bytes, kPlaneAheadBytes);
  announced_ = {row.matrix, row.rows[0], a.ahead_bytes};
}

/// The canonical sums of the survivors, in their order; then the rows of W2 that the tile before has left.
void TileSink::dot_survivors(HiddenRange hidden) {
  const Units survivors{tile_.survivors, static_cast<std::size_t>(survivors_)};
  const Units deferred{tile_.deferred, static_cast<std::size_t>(deferred_)};
  const RowList plane = plane_after(hidden);
  dot(first_matrix(), rows_of(first_matrix(), survivors, whole_row()), whole_row(), nullptr, tile_.pre, nullptr,
      deferred_ > 0 ? rows_of(Matrix::down, deferred, whole_row()) : plane);
  add_rows(rows_of(Matrix::down, deferred, whole_row()), tile_.deferred_coefficients, plane);
  deferred_ = 0;
}

/// The first bytes of the plane of the tile that follows: of the layer's last tile, none.
RowList TileSink::plane_after(HiddenRange hidden) const {
  const Certificate& c = *run_.certificate;
  if (hidden.end >= run_.shape.d_ff) return {};
  return {c.panel(first_panel(hidden.end)), 0, std::min(kPlaneAheadBytes, c.layout().tail_offset()), nullptr, 0, 1};
}

/// h of the survivors; all other units of the tile are closed.
void TileSink::activate_survivors(HiddenRange hidden) {
  const index_t batch = run_.problem.batch, units = run_.problem.d_ff;
  const bool gated = run_.problem.gated;
  for (index_t s = 0; s < survivors_; ++s) {
    for (index_t b = 0; b < batch; ++b) tile_.pre[at(s, b)] = biased(first_matrix(), tile_.survivors[s], tile_.pre[at(s, b)]);
  }
  if (gated) up_sums_of_open_survivors();
  for (index_t b = 0; b < batch && run_.active_mask != nullptr; ++b) {
    std::fill_n(run_.active_mask + b * units + hidden.begin, hidden.size(), std::uint8_t{0});
  }
  for (index_t s = 0; s < survivors_; ++s) {
    const index_t unit = tile_.survivors[s];
    bool any = false;
    for (index_t b = 0; b < batch; ++b) {
      const float pre = tile_.pre[at(s, b)], up = gated ? biased(Matrix::up, unit, tile_.up[at(s, b)]) : 0.0f;
      tile_.coefficients[at(s, b)] = unit_h(unit, b, pre, up);
      if (!counts_as_open(unit, b, pre, up)) continue;
      any = true;
      ++statistics_.active;
      if (run_.active_mask != nullptr) run_.active_mask[b * units + unit] = 1;
    }
    statistics_.active_union += any ? 1 : 0;
  }
}

/// The up rows of the survivors whose gate is open for some token, or must not be hidden; 0 for the others.
void TileSink::up_sums_of_open_survivors() {
  const index_t batch = run_.problem.batch;
  index_t count = 0;
  for (index_t s = 0; s < survivors_; ++s) {
    const index_t unit = tile_.survivors[s];
    bool wanted = false;
    for (index_t b = 0; b < batch; ++b) {
      tile_.up[at(s, b)] = 0.0f;
      wanted |= is_open(run_.problem.activation, tile_.pre[at(s, b)]) || strict(unit, b);
    }
    if (wanted) tile_.selected[count++] = unit;
  }
  dot(Matrix::up, rows_of(Matrix::up, Units{tile_.selected, static_cast<std::size_t>(count)}, whole_row()), whole_row(), nullptr,
      tile_.compact, nullptr);
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
    const index_t unit = tile_.survivors[s];
    const float* c = tile_.coefficients + at(s, 0);
    bool wanted = run_.weights.down_row_nonfinite(unit);
    for (index_t b = 0; b < batch && !wanted; ++b) wanted = c[b] != 0.0f;  // true for NaN
    if (!wanted) continue;
    tile_.deferred[deferred_] = unit;
    std::copy_n(c, batch, tile_.deferred_coefficients + at(deferred_, 0));
    ++deferred_;
  }
  statistics_.pushed_rows += static_cast<std::uint64_t>(deferred_);
  if (hidden.end < part_.end) return;
  const Units deferred{tile_.deferred, static_cast<std::size_t>(deferred_)};
  add_rows(rows_of(Matrix::down, deferred, whole_row()), tile_.deferred_coefficients, plane_after(hidden));
  deferred_ = 0;
}

}  // namespace signsplit::cpu
