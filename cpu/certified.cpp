// The certified strategy: a cheap plane of the first matrix proves most closed units closed, and only the others' rows are
// read (docs/certificate.md).
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "signsplit/certificate.hpp"
#include "tile_sink.hpp"

namespace signsplit::cpu {

/// Rows that will be read once the tile's panels are done, handed to the kernel of the next panel, which asks for them while
/// it waits for its own bytes: the memory never idles between the plane and the rows that survive it.
class TileSink::RowsAhead {
 public:
  void clear() { count_ = 0; }
  void add(const std::byte* row) { rows_[static_cast<std::size_t>(count_++)] = reinterpret_cast<const unsigned char*>(row); }
  [[nodiscard]] const unsigned char* const* rows() const { return rows_.data(); }
  [[nodiscard]] index_t count() const { return count_; }

 private:
  std::array<const unsigned char*, 3 * kPanelRows> rows_;  // of gate, up and down
  index_t count_ = 0;
};

void TileSink::certify(HiddenRange hidden) {
  const index_t first = first_panel(hidden.begin), panels = panels_spanned(hidden.begin, hidden.end);
  RowsAhead ahead;
  survivors_ = likely_ = 0;
  for (index_t p = first; p < first + panels; ++p) certify_panel(p, hidden, ahead);
  statistics_.refined += static_cast<std::uint64_t>(survivors_);
  statistics_.certified += static_cast<std::uint64_t>(hidden.size() - survivors_);
  statistics_.bytes_plane += static_cast<std::uint64_t>(panels * run_.certificate->layout().bytes());
}

/// The canonical sums of the survivors, in their order.
void TileSink::dot_survivors(KRange k) {
  const Units survivors{tile_.survivors, static_cast<std::size_t>(survivors_)};
  const Units likely{tile_.likely, static_cast<std::size_t>(likely_)};
  const Matrix second = run_.problem.gated ? Matrix::up : Matrix::down;
  dot(first_matrix(), rows_of(first_matrix(), survivors, k), k, tile_.pre_partials, tile_.pre, nullptr,
      k.last ? rows_of(second, likely, whole_row()) : RowList{});
}

/// Moves the survivors' sums to the places of their units. The others are closed: −∞ stands for whatever their sums are.
void TileSink::spread_survivors(HiddenRange hidden) {
  const index_t batch = run_.problem.batch;
  index_t left = survivors_;
  for (index_t i = hidden.size() - 1; i >= 0; --i) {
    if (left > 0 && tile_.survivors[left - 1] == hidden.begin + i) {
      --left;
      std::memmove(tile_.pre + at(i, 0), tile_.pre + at(left, 0), static_cast<std::size_t>(batch) * sizeof(float));
    } else {
      std::fill_n(tile_.pre + at(i, 0), batch, -std::numeric_limits<float>::infinity());
    }
  }
}

/// Lists the rows of the panel that lie in the tile and are not certified; they take the place of the rows in `ahead`.
void TileSink::certify_panel(index_t panel, HiddenRange hidden, RowsAhead& ahead) {
  const Weights& w = run_.weights;
  const Certificate& c = *run_.certificate;
  const PanelVerdict verdict = run_.certify({reinterpret_cast<const unsigned char*>(c.panel(panel)), c.layout(),
                                             run_.workspace.x_tokens, run_.problem.batch, c.threshold(), tile_.certify_sums,
                                             ahead.rows(), ahead.count(), w.row_bytes()});
  ahead.clear();
  for (auto left = static_cast<unsigned>(static_cast<std::uint16_t>(~verdict.certified)); left != 0; left &= left - 1) {
    const int lane = std::countr_zero(left);
    const index_t unit = panel * kPanelRows + lane;
    if (unit < hidden.begin || unit >= hidden.end) continue;
    tile_.survivors[survivors_++] = unit;
    const index_t at = unit * w.row_bytes();
    ahead.add((w.gated() ? w.gate() : w.up()) + at);
    if ((verdict.likely >> lane & 1) == 0) continue;
    tile_.likely[likely_++] = unit;
    if (w.gated()) ahead.add(w.up() + at);
    ahead.add(w.down() + at);
  }
}

}  // namespace signsplit::cpu
