// The certificate without vectors: the definition itself, row by row.
#include <cmath>

#include "certify_kernels.hpp"

namespace signsplit::cpu {
namespace {

float fma(float x, float y, float z) { return std::fma(x, y, z); }

/// One token: row `lane`, and what remains of it at the borders between K tiles.
RowBound evaluate_tiles(const CertifyPanel& a, index_t lane) {
  const QuantizedToken& token = a.tokens[0];
  float* const before = a.sums + 2 * lane;
  constexpr index_t stride = 2 * kPanelRows;
  const RowBound all = evaluate_row(a.panel, a.layout, lane, token, fma, [&](index_t g, float middle, float bound) {
    if (g == 0 || g % a.tile_groups != 0) return;
    before[(g / a.tile_groups - 1) * stride] = middle;
    before[(g / a.tile_groups - 1) * stride + 1] = bound;
  });
  float norm;
  __builtin_memcpy(&norm, a.panel + a.layout.tail_offset() + 4 * (kPanelRows + lane), sizeof norm);
  const float slack = remaining_slack(a.layout.groups());
  for (index_t n = 0; (n + 1) * a.tile_groups < a.layout.groups(); ++n) {
    const RowBound sums{0.0f, before[n * stride], before[n * stride + 1]};
    a.remains[n * kPanelRows + lane] = remaining_bound(sums, all, norm, token.margin, slack, fma);
  }
  return all;
}

}  // namespace

PanelVerdict certify_scalar(const CertifyPanel& a) {
  PanelVerdict verdict{0xffff, 0};
  for (index_t row = 0; row < kPanelRows; ++row) {
    const auto bit = static_cast<std::uint16_t>(1 << row);
    float offset;
    __builtin_memcpy(&offset, a.panel + a.layout.tail_offset() + 4 * row, sizeof offset);
    for (index_t b = 0; b < a.batch; ++b) {
      const RowBound bound = a.tile_groups > 0 ? evaluate_tiles(a, row) : evaluate_row(a.panel, a.layout, row, a.tokens[b], fma);
      if (!is_certified(bound.upper, offset, a.threshold)) verdict.certified &= static_cast<std::uint16_t>(~bit);
      if (!(bound.middle + offset < a.threshold)) verdict.likely |= bit;
    }
  }
  verdict.likely &= static_cast<std::uint16_t>(~verdict.certified);
  return verdict;
}

}  // namespace signsplit::cpu
