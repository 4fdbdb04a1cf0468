// What remains of a row at the borders between K tiles, and that no unit is closed by it wrongly.
#pragma once

#include "certificate_cases.hpp"

namespace signsplit::test {

/// [units][borders]: what a kernel says remains of one token's sums at the borders between K tiles of so many groups.
inline std::vector<float> remains_of(cpu::CertifyKernel kernel, const Certificate& certificate, const QuantizedToken& token, index_t tile_groups) {
  const index_t borders = (certificate.layout().groups() - 1) / tile_groups;
  struct alignas(64) Line {
    float values[kPanelRows];
  };
  std::vector<Line> sums(static_cast<std::size_t>(2 * borders + 2)), of_panel(static_cast<std::size_t>(borders + 1));
  std::vector<float> remains;
  for (index_t j = 0; j < certificate.rows(); ++j) {
    if (j % kPanelRows == 0) {
      kernel({reinterpret_cast<const unsigned char*>(certificate.panel(j / kPanelRows)), certificate.layout(), &token, 1,
              certificate.threshold(), sums[0].values, tile_groups, of_panel[0].values});
    }
    for (index_t n = 0; n < borders; ++n) remains.push_back(of_panel[static_cast<std::size_t>(n)].values[j % kPanelRows]);
  }
  return remains;
}

/// A unit is not judged open by its whole sum, and closed by a part of it: [units] of the first matrix, x padded.
inline void check_none_dropped_but_closed(const Certificate& certificate, const Tokens& tokens, const std::vector<float>& matrix, index_t d,
                                   index_t tile_groups, const std::function<bool(index_t)>& open) {
  const index_t borders = (certificate.layout().groups() - 1) / tile_groups;
  const std::vector<float> remains = remains_of(cpu::certify_scalar, certificate, tokens.tokens[0], tile_groups);
  for (index_t j = 0; j < certificate.rows(); ++j) {
    for (index_t n = 0; n < borders; ++n) {
      const index_t columns = std::min((n + 1) * tile_groups * certificate.layout().group, d);
      const float sum = canonical_dot(tokens.padded.data(), matrix.data() + j * d, columns);
      const float upper = sum + remains[static_cast<std::size_t>(j * borders + n)];
      if (is_certified(upper, certificate.offset_at(j), certificate.threshold())) CHECK_FALSE(open(j));
    }
  }
}

}  // namespace signsplit::test
