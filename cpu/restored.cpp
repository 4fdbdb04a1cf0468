// certified with placement residual: the plane and the residual take the place of the first matrix. The plane's bytes of a survivor
// are copied out of its panel at once, while that is in the cache: a panel interleaves 16 rows, so that they lie in all of its lines.
#include <algorithm>
#include <cstring>

#include "signsplit/certificate.hpp"
#include "signsplit/residual.hpp"
#include "tile_sink.hpp"

namespace signsplit::cpu {

/// Keeps the plane's integers, signed, and scales of the survivors from number `first` on, all of them in panel p. Meanwhile asks for
/// more of the plane than certify() has, so that the memory does not rest.
void TileSink::keep_planes(index_t p, index_t first) {
  constexpr index_t kMoreLines = 12;  // for every chunk: 4 took 9 % more time in all (bf16, 4096x16384), 17 the same, 24 as much more again
  const Certificate& c = *run_.certificate;
  const PanelLayout layout = c.layout();
  const std::byte* const panel = c.panel(p);
  static_assert(kScaleShift >= 16, "a scale is a bfloat16");
  const std::byte* more = panel + layout.bytes() + kPlaneAheadBytes;
  for (index_t g = 0; g < layout.groups(); ++g) {
    const std::byte* const chunk = panel + layout.chunk_offset(g) + layout.plane_offset(g);
    const std::byte* const codes = panel + layout.chunk_offset(g) + layout.codes_offset(g);
    const index_t columns = layout.columns_of(g);
    for (index_t line = 0; line < kMoreLines; ++line, more += 64) __builtin_prefetch(more, 0, 2);
    for (index_t s = first; s < survivors_; ++s) {
      const index_t lane = tile_.survivors[s] % kPanelRows;
      signed char* const to = tile_.planes + s * layout.columns + g * layout.group;
      for (index_t k = 0; k < columns; k += 4) {
        std::uint32_t four;
        std::memcpy(&four, chunk + k * kPanelRows + lane * 4, sizeof four);
        four ^= 0x80808080u;  // stored as q + 128
        std::memcpy(to + k, &four, sizeof four);
      }
      std::uint32_t base;
      std::memcpy(&base, panel + 4 * lane, sizeof base);
      tile_.plane_scales[s * layout.groups() + g] =
          static_cast<std::uint16_t>(scale_bits_of(base, static_cast<std::uint8_t>(codes[lane])) >> 16);
    }
  }
}

/// The survivors' rows of the residual.
RowList TileSink::residual_rows(Units units) const {
  const index_t bytes = run_.residual->layout().row_bytes();
  return {run_.residual->rows(), bytes, bytes, units.data(), 0, static_cast<index_t>(units.size())};
}

/// As dot() over their whole rows, with the weights restored.
void TileSink::dot_restored(Units survivors, const RowList& next) {
  if (survivors.empty()) return;
  const Residual& r = *run_.residual;
  const ResidualLayout layout = r.layout();
  const PanelLayout plane = run_.certificate->layout();
  const RowList rows = residual_rows(survivors);
  const std::span<const std::int32_t> raw = r.raw_numbers();
  const RestoredDot args{rows,
                         next,
                         announce(rows, next),
                         tile_.planes,
                         tile_.plane_scales,
                         layout.columns,
                         plane.group,
                         plane.groups(),
                         layout.positions_offset(),
                         layout.escapes_offset(),
                         raw.empty() ? nullptr : raw.data(),
                         r.raw(),
                         run_.workspace.x,
                         run_.workspace.packed_x,
                         run_.problem.batch,
                         tile_.restored,
                         tile_.pre};
  announced_.bytes = std::min(next.bytes, restored_rows_ahead(rows.bytes) * rows.bytes);  // of its first row
  run_.restored->dot[static_cast<std::size_t>(run_.weights.dtype())](args);
  std::uint64_t bytes = static_cast<std::uint64_t>(rows.row_count * rows.bytes);
  for (const index_t unit : survivors) {
    if (!raw.empty() && raw[static_cast<std::size_t>(unit)] >= 0) bytes += row_bytes() - static_cast<std::uint64_t>(rows.bytes);
  }
  (run_.problem.gated ? statistics_.bytes_gate : statistics_.bytes_up) += bytes;
}

}  // namespace signsplit::cpu
