// The certificate's plane as bytes in memory, and the evaluation of one row of it: the definition that every kernel, on any
// device, repeats bit for bit. Light on purpose: kernel files of every instruction set include it. docs/certificate.md has
// the proof.
#pragma once

#include <cstdint>

#include "signsplit/portability.hpp"

namespace signsplit {

/// Rows that lie interleaved in one panel: the lanes of an AVX-512 register of 32-bit sums.
inline constexpr index_t kPanelRows = 16;
/// The widest group: 1024 · 127 · 16256 is the largest sum that fits in an int32.
inline constexpr index_t kMaxPlaneGroup = 1024;
/// Largest magnitude of a quantized x: 127·128, so that it splits into hi·128 + lo with hi in ±127 and lo in [−64, 63].
inline constexpr int kMaxQuantizedX = 127 * 128;

/// Four consecutive elements of a quantized x, in the two forms that kernels multiply with.
struct QuantizedQuad {
  std::int8_t high[4];     ///< X = 128·high + low
  std::int8_t low[4];
  std::int16_t even[2];    ///< X of elements 0 and 2
  std::int16_t odd[2];     ///< X of elements 1 and 3
};
static_assert(sizeof(QuantizedQuad) == 16);

/// What one group of x contributes besides its integers.
struct QuantizedGroup {
  float step;              ///< x ≈ step · X; a normal number
  float per_scale;         ///< times the row's scale: bounds the quantization of x, and R·x of x's largest elements; 0 or a normal number
  float per_code;          ///< times the row's scale and residual code: ≥ Euclidean norm of the other elements of x · residual_unit()
  std::int32_t start;      ///< −128·ΣX: takes back the 128 that stored plane elements are too large by
  std::int32_t start_high; ///< −128·Σhigh
  std::int32_t start_low;  ///< −128·Σlow
};

/// One token as the certificate wants it.
struct QuantizedToken {
  const QuantizedQuad* quads = nullptr;    ///< [Dp / 4]
  const QuantizedGroup* groups = nullptr;  ///< [groups]
  float margin = 0.0f;  ///< times a row's norm: the rounding of the canonical sum and of the certificate's own; +∞: never certify
};

/// What a group's integers miss of x, and its size.
struct GroupSums {
  double error = 0.0;    ///< Σ|x − step·X|
  double squares = 0.0;  ///< Σx²
};

/// Quantizes a group of x [columns] into quads [columns / 4]: group.step is given, its starts are set. Of any instruction set, with the same bits.
using QuantizeGroup = GroupSums (*)(const float* x, index_t columns, QuantizedQuad* quads, QuantizedGroup& group);

/// A scale is an f32 with kScaleBits bits of mantissa, and stored as a byte: what it lies above the row's base, in units of its last bit.
inline constexpr int kScaleBits = 5, kScaleShift = 23 - kScaleBits;
SIGNSPLIT_HD constexpr std::uint32_t scale_bits_of(std::uint32_t base, std::uint32_t code) { return base + (code << kScaleShift); }

/// Where things lie. A panel is a head, a sequence of chunks, one per group of `group` columns (the last may have fewer), and a tail:
///   head   kPanelRows bases of the rows' scales, as bits of an f32
///   chunk  [columns / 4][kPanelRows][4] plane elements q + 128 as bytes, and kPanelRows scale codes and kPanelRows residual codes
///          (rounded up), a byte each: after the plane, but before it in every second chunk, so that the planes are aligned to 64 bytes
///   tail   aligned to 64 bytes: kPanelRows offsets (bias and what belongs to it, rounded up; +∞: never certify), kPanelRows norms
///          ≥ ‖w‖, ‖S‖; f32
struct PanelLayout {
  index_t columns = 0;  ///< Dp, a multiple of 64
  index_t group = 64;   ///< a multiple of 64, at most kMaxPlaneGroup

  SIGNSPLIT_HD constexpr index_t groups() const { return ceil_div(columns, group); }
  SIGNSPLIT_HD constexpr index_t columns_of(index_t g) const { return g + 1 < groups() ? group : columns - g * group; }
  SIGNSPLIT_HD constexpr index_t chunk_bytes(index_t g) const { return (columns_of(g) + kCodes) * kPanelRows; }
  SIGNSPLIT_HD constexpr index_t chunk_offset(index_t g) const { return kHeadBytes + g * (group + kCodes) * kPanelRows; }
  /// In the chunk.
  SIGNSPLIT_HD static constexpr index_t plane_offset(index_t g) { return g % 2 * kCodes * kPanelRows; }
  SIGNSPLIT_HD constexpr index_t codes_offset(index_t g) const { return g % 2 == 0 ? columns_of(g) * kPanelRows : 0; }
  SIGNSPLIT_HD constexpr index_t tail_offset() const { return round_up(kHeadBytes + (columns + kCodes * groups()) * kPanelRows, 64); }
  SIGNSPLIT_HD constexpr index_t bytes() const { return tail_offset() + 8 * kPanelRows; }
  friend constexpr bool operator==(const PanelLayout&, const PanelLayout&) = default;

  static constexpr index_t kHeadBytes = 4 * kPanelRows;
  static constexpr index_t kCodes = 2;  ///< bytes of a row in a chunk, beside its plane
};

/// Panels that hold the units [begin, end).
SIGNSPLIT_HD constexpr index_t first_panel(index_t begin) { return begin / kPanelRows; }
SIGNSPLIT_HD constexpr index_t panels_spanned(index_t begin, index_t end) {
  return begin < end ? (end - 1) / kPanelRows - begin / kPanelRows + 1 : 0;
}

/// What the certificate says of one row and token.
struct RowBound {
  float upper;   ///< with the row's offset, above everything that the canonical z can be
  float middle;  ///< S·x̂, without the bias
  float bound;   ///< what was added to it
};

/// Row `lane` of a panel. `fma` rounds once. Everything is in the order in which every kernel does it. note(g, middle, bound) gets the
/// sums at the beginning of every group.
template <class Fma, class Note>
SIGNSPLIT_HD inline RowBound evaluate_row(const unsigned char* panel, PanelLayout layout, index_t lane,
                                          const QuantizedToken& x, Fma fma, Note note) {
  std::uint32_t base;
  __builtin_memcpy(&base, panel + 4 * lane, sizeof base);
  float middle = 0.0f, bound = 0.0f;
  const QuantizedQuad* quad = x.quads;
  for (index_t g = 0; g < layout.groups(); ++g) {
    const unsigned char* chunk = panel + layout.chunk_offset(g);
    const QuantizedGroup& group = x.groups[g];
    const index_t quads = layout.columns_of(g) / 4;
    note(g, middle, bound);
    auto sum = static_cast<std::uint32_t>(group.start);  // modulo 2³²: the sum fits, its parts need not
    for (index_t q = 0; q < quads; ++q, ++quad) {
      const unsigned char* plane = chunk + layout.plane_offset(g) + (q * kPanelRows + lane) * 4;
      sum += static_cast<std::uint32_t>(plane[0] * quad->even[0] + plane[1] * quad->odd[0] + plane[2] * quad->even[1] +
                                        plane[3] * quad->odd[1]);
    }
    const unsigned char* codes = chunk + layout.codes_offset(g);
    const std::uint32_t scale_bits = scale_bits_of(base, codes[lane]);
    float scale;
    __builtin_memcpy(&scale, &scale_bits, sizeof scale);
    middle = fma(scale, static_cast<float>(static_cast<std::int32_t>(sum)) * group.step, middle);
    bound = fma(scale, fma(static_cast<float>(codes[kPanelRows + lane]), group.per_code, group.per_scale), bound);
  }
  float norm;
  __builtin_memcpy(&norm, panel + layout.tail_offset() + 4 * (kPanelRows + lane), sizeof norm);
  bound = fma(norm, x.margin, bound);
  return {bound + middle, middle, bound};
}
template <class Fma>
SIGNSPLIT_HD inline RowBound evaluate_row(const unsigned char* panel, PanelLayout layout, index_t lane,
                                          const QuantizedToken& x, Fma fma) {
  return evaluate_row(panel, layout, lane, x, fma, [](index_t, float, float) {});
}

/// What the rounding of bounds over so many groups, and of the difference of two, can come to, in parts of the whole bound.
SIGNSPLIT_HD constexpr float remaining_slack(index_t groups) { return static_cast<float>(groups + 16) * 0x1p-23f; }

/// Above all that the canonical z, without its bias, can be more than the canonical sum of the groups before g, which may be rounded as
/// it is: `before` are evaluate_row's sums at group g, `all` what it returned.
template <class Fma>
SIGNSPLIT_HD inline float remaining_bound(RowBound before, RowBound all, float norm, float margin, float slack, Fma fma) {
  const float rest = fma(slack, all.bound, fma(-1.0f, before.bound, all.bound));
  return (rest + norm * margin) + fma(-1.0f, before.middle, all.middle);
}

/// Row `lane` is certified: z of the canonical evaluation is at most `threshold`.
SIGNSPLIT_HD inline bool is_certified(float upper, float offset, float threshold) { return upper + offset < threshold; }

}  // namespace signsplit
