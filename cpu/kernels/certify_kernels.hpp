// The certificate's kernels: one panel of the plane against every token. All evaluate certificate_panel.hpp's evaluate_row on
// 16 rows at a time, with the same bits, so that all decide alike. As for all kernels: no heavy headers.
#pragma once

#include "signsplit/certificate_panel.hpp"

namespace signsplit::cpu {

struct CertifyPanel {
  const unsigned char* panel;     ///< 64-byte aligned
  PanelLayout layout;
  const QuantizedToken* tokens;   ///< [batch]
  index_t batch;
  float threshold;                ///< a unit is closed when z is at most this
  float* sums;                    ///< scratch, [batch, 2, kPanelRows], 64-byte aligned
  const unsigned char* const* ahead;  ///< [ahead_count] rows to bring into the second-level cache meanwhile
  index_t ahead_count;
  index_t ahead_bytes;            ///< of each row, a multiple of 64
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

/// How far ahead of its use the plane is asked for. A panel is followed by the next one, so that this runs over its end too.
inline constexpr index_t kPlaneAheadBytes = 8192;
inline constexpr int kIntoSecondLevelCache = 2;  // locality argument of __builtin_prefetch

/// Asks for what comes after group g: the plane further on, and a slice of the rows that are wanted next.
inline void ask_ahead(const CertifyPanel& a, const unsigned char* chunk, index_t g) {
  const index_t chunk_bytes = (a.layout.columns_of(g) + 4) * kPanelRows;
  for (index_t line = 0; line < chunk_bytes; line += 64) __builtin_prefetch(chunk + kPlaneAheadBytes + line, 0, kIntoSecondLevelCache);
  const index_t slice = ceil_div(a.ahead_bytes / 64, a.layout.groups()) * 64, begin = g * slice;
  const index_t end = begin + slice < a.ahead_bytes ? begin + slice : a.ahead_bytes;
  for (index_t r = 0; r < a.ahead_count; ++r) {
    for (index_t line = begin; line < end; line += 64) __builtin_prefetch(a.ahead[r] + line, 0, kIntoSecondLevelCache);
  }
}

}  // namespace signsplit::cpu
