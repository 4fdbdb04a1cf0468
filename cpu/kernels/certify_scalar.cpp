// The certificate without vectors: the definition itself, row by row.
#include <cmath>

#include "certify_kernels.hpp"

namespace signsplit::cpu {

PanelVerdict certify_scalar(const CertifyPanel& a) {
  PanelVerdict verdict{0xffff, 0};
  for (index_t row = 0; row < kPanelRows; ++row) {
    const auto bit = static_cast<std::uint16_t>(1 << row);
    float offset;
    __builtin_memcpy(&offset, a.panel + a.layout.tail_offset() + 4 * row, sizeof offset);
    for (index_t b = 0; b < a.batch; ++b) {
      const RowBound bound =
          evaluate_row(a.panel, a.layout, row, a.tokens[b], [](float x, float y, float z) { return std::fma(x, y, z); });
      if (!is_certified(bound.upper, offset, a.threshold)) verdict.certified &= static_cast<std::uint16_t>(~bit);
      if (!(bound.middle + offset < a.threshold)) verdict.likely |= bit;
    }
  }
  verdict.likely &= static_cast<std::uint16_t>(~verdict.certified);
  return verdict;
}

}  // namespace signsplit::cpu
