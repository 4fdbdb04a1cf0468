// The certificate's kernels: one panel of the plane against every token. All evaluate certificate_panel.hpp's rows,
// 16 at a time, with the same bits, so that all decide alike. As for all kernels: no heavy headers.
#pragma once

#include "signsplit/certificate_panel.hpp"

namespace signsplit::cpu {

struct CertifyPanel {
  const unsigned char* panel;     ///< 64-byte aligned
  PanelLayout layout;
  const QuantizedToken* tokens;   ///< [batch]
  index_t batch;
  float threshold;                ///< a unit is closed when z is at most this
  float* sums;                    ///< scratch, [batch, or borders if more, 2, kPanelRows], 64-byte aligned
  index_t tile_groups = 0;        ///< one token only: the groups of a K tile; 0: rows are not judged again
  float* remains = nullptr;       ///< [borders between K tiles, kPanelRows], 64-byte aligned: remaining_bound() there
};

/// Bit r stands for row r of the panel.
struct PanelVerdict {
  std::uint16_t certified;  ///< closed for every token, proven
  std::uint16_t likely;     ///< not certified, and by its middle open for some token: its row of W2 will be wanted
};

using CertifyKernel = PanelVerdict (*)(const CertifyPanel&);

PanelVerdict certify_scalar(const CertifyPanel& panel);
PanelVerdict certify_avx2(const CertifyPanel& panel);        // x86-64 builds only, as the next two
PanelVerdict certify_avx512(const CertifyPanel& panel);
PanelVerdict certify_avx512vnni(const CertifyPanel& panel);

// Before the first panel, on one core: of a token of 4096 columns 13 us without vectors of their own, 0.8 % of a call, and 7 with AVX-512.
GroupSums quantize_group_avx2(const float* x, index_t columns, QuantizedQuad* quads, QuantizedGroup& group);  // x86-64 builds only, as the next
GroupSums quantize_group_avx512(const float* x, index_t columns, QuantizedQuad* quads, QuantizedGroup& group);

/// How far ahead of its use the plane is asked for, the first and the second time. A panel is followed by the next one, so that this runs
/// over its end too. 7 or 8 and 4 to 6 KiB: within 2 %; 10, 12 or 16 KiB first: 1 to 4 % slower.
inline constexpr index_t kPlaneAheadBytes = 8192, kPlaneAgainBytes = 5120;
/// And where a page begins.
inline constexpr index_t kPlanePagesAhead = 16 * 1024;

}  // namespace signsplit::cpu
