// The residual: what, with a certificate's plane, restores every weight of the first matrix bit for bit, so that the matrix
// itself need not be kept. docs/certificate.md has the encoding's sizes, and what it costs.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "signsplit/aligned_buffer.hpp"
#include "signsplit/certificate.hpp"
#include "signsplit/dtype.hpp"

namespace signsplit {

class Weights;

/// Positions of escapes are 16 bits.
inline constexpr index_t kMaxResidualColumns = 65536;

/// How a row of the residual lies in memory: a function of type and length alone, so that what a run reads can be counted
/// without the weights.
///
/// With S = scale·q (exact in f32) and everything as bits of an f32, weight = (S & mask()) + (difference << shift()) modulo 2^32,
/// a signed difference of 8 bits (bfloat16, binary16) or 24 (f32). A weight whose difference is wider (q = 0 says nothing of
/// its exponent) is an escape, listed with its position. A row:
///   difference  [columns] signed bytes; of f32 [columns] 16-bit low parts, then [columns] signed high bytes
///   positions   [slots] 16 bits each: the first is their number, then they follow, ascending
///   escapes     [slots] weights as stored; the first is unused
/// A row with more escapes than slots − 1 is *raw*: kept whole, elsewhere.
struct ResidualLayout {
  DType dtype = DType::bf16;
  index_t columns = 0;  ///< Dp, a multiple of 64, at most kMaxResidualColumns

  [[nodiscard]] constexpr index_t difference_bytes() const { return dtype == DType::f32 ? 3 : 1; }
  [[nodiscard]] constexpr int shift() const { return dtype == DType::f32 ? 0 : dtype == DType::f16 ? 13 : 16; }
  [[nodiscard]] constexpr std::uint32_t mask() const { return 0xffffffffu << shift(); }
  /// Of Gaussian weights 0.8 % escape (groups of 64), of binary16 4.8 %; the rest is for rows that have more by chance.
  [[nodiscard]] constexpr index_t slots() const {
    return dtype == DType::f16 ? round_up(columns / 16 + 16, 32) : round_up(columns / 80 + 6, 16);
  }
  [[nodiscard]] constexpr index_t positions_offset() const { return columns * difference_bytes(); }
  [[nodiscard]] constexpr index_t escapes_offset() const { return positions_offset() + 2 * slots(); }
  [[nodiscard]] constexpr index_t row_bytes() const { return round_up(escapes_offset() + slots() * dtype_bytes(dtype), 64); }
  friend constexpr bool operator==(const ResidualLayout&, const ResidualLayout&) = default;
};

/// The residual of one layer's first matrix (up, or of a gated layer gate) and one certificate. Immutable.
class Residual {
 public:
  /// Of the certificate of these weights. Rows that the certificate holds as zeros because something in them is not finite
  /// become raw like any other. invalid_argument for int8 weights, which are as small as the plane, for planes of fewer than
  /// 8 bits, which leave too many escapes, for rows longer than kMaxResidualColumns, and for weights that have given their first
  /// matrix up.
  [[nodiscard]] static Result<Residual> build(const Weights& weights, const Certificate& certificate);
  /// A copy in memory of its own.
  [[nodiscard]] Result<Residual> clone() const;

  [[nodiscard]] ResidualLayout layout() const noexcept { return layout_; }
  /// [F] rows of layout().row_bytes(), 64-byte aligned.
  [[nodiscard]] const std::byte* rows() const noexcept { return rows_.data(); }
  /// [F] row numbers of raw(), −1 for rows that are not raw; empty when none is.
  [[nodiscard]] std::span<const std::int32_t> raw_numbers() const noexcept { return raw_numbers_; }
  /// The raw rows as stored, Dp elements each, 64-byte aligned.
  [[nodiscard]] const std::byte* raw() const noexcept { return raw_.data(); }
  [[nodiscard]] index_t raw_count() const noexcept { return raw_count_; }
  /// Memory taken.
  [[nodiscard]] std::size_t bytes() const noexcept { return rows_.size() + raw_.size() + raw_numbers_.size() * sizeof(std::int32_t); }

  /// Elements [begin, begin + out.size()) of row j bit for bit, each the f32 of the stored weight: the definition that the kernels
  /// repeat. 0 ≤ j < F, begin + out.size() ≤ layout().columns.
  void restore(const Certificate& certificate, index_t j, index_t begin, std::span<float> out) const noexcept;

 private:
  Residual() = default;

  ResidualLayout layout_;
  AlignedBuffer rows_, raw_;
  std::vector<std::int32_t> raw_numbers_;
  index_t raw_count_ = 0;
};

}  // namespace signsplit
