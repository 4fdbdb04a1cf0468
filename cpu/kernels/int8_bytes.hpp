// int8 weights, one token, with integer multiplication: where an instruction multiplies bytes and adds the products in pairs.
//
// A scale is a bfloat16 value, M · 2^e with an integer M < 256. So a weight is (M · q) · 2^e, and M · q fits in 16 bits: one instruction makes 16
// (32) of them of every second byte. Shifted up by 16 bits and converted they are M · q · 2^16, and fma(x, M · q · 2^16, sum) rounds the same real number as
// fma(x, scale · q, sum · 2^(e − 16)) does, but for a power of two: the same bits, once the sum is multiplied by 2^(e − 16). That holds as long as neither
// sum overflows and no product has bits below 2^-149, which is tested (kLargest, fit()).
//
// A vector of weights takes 3.5 operations in place of 4: half a multiplication, a shift or mask, conversion, FMA. Zen 5 has two units for
// FMAs and for multiplications of integers, and these are busy for 1.5 of the 3.5; with products of 16-bit integers, the same number of operations,
// it is 2: 30 in place of 34 GB/s from the first-level cache (AVX2).
//
// Vector r has the elements that are r modulo 4. x, and y for as long as a call takes, lie in that order, "spread".
#pragma once

#include "token_blocks.hpp"
#include "weight_lanes.hpp"

namespace signsplit::cpu {
namespace {

constexpr index_t kSpreadElems = 8 * 1024;   // of a row, at most
constexpr index_t kSummands = 16 * 1024;     // of a sum, at most
constexpr float kLargest = 0x1p60f;          // x and h: sums stay below kSummands · 2^60 · 2^15 · 2^16 (shifted) and · 127 · 2^24 (true)
constexpr float kLargestSum = 0x1p100f;      // y · 2^(16 − e) as a call begins
constexpr int kMostBinades = 20;             // of scales: from group to group a shifted sum grows by no more
constexpr int kExponentBias = 134;           // of a bfloat16's exponent field, when M is an integer
constexpr int kProductShift = 16;
constexpr std::uint16_t kLeastExponent = 24 << 7, kLargestExponent = (kExponentBias + kProductShift) << 7;  // in place

inline float of_bits(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }
/// A scale that is 0 has M = 0, and e = 16. Without branches, so that they can be vectors.
inline std::uint32_t exponent_of(std::uint16_t scale) {
  return (scale & 0x7f80u) + (scale == 0) * std::uint32_t{kLargestExponent};
}
inline std::uint32_t integer_of(std::uint16_t scale) { return (scale & 0x7fu) | (scale != 0) * 0x80u; }
/// 2^(16 − e) and 2^(e − 16).
inline float shifted_power(std::uint16_t scale) { return of_bits((static_cast<std::uint32_t>(127 + kExponentBias + kProductShift) << 23) - (exponent_of(scale) << 16)); }
inline float true_power(std::uint16_t scale) { return of_bits((exponent_of(scale) << 16) - (static_cast<std::uint32_t>(kExponentBias + kProductShift - 127) << 23)); }

/// Whether scales that are looked at in turn can be taken apart so.
class ScaleRange {
 public:
  void include(const std::uint16_t* scales, index_t count) {
    std::uint16_t low = low_, high = high_;
    for (index_t i = 0; i < count; ++i) {
      const auto exponent = static_cast<std::uint16_t>(scales[i] & 0x7f80), of_nonzero = static_cast<std::uint16_t>(exponent_of(scales[i]));
      low = of_nonzero < low ? of_nonzero : low;
      high = exponent > high ? exponent : high;
    }
    low_ = low;
    high_ = high;
  }
  [[nodiscard]] bool is_fit() const { return low_ >= kLeastExponent && high_ <= kLargestExponent && high_ - low_ <= kMostBinades << 7; }
  /// Whether values times M · q · 2^e have no bits below 2^-149, whatever the scale, and are not too large.
  [[nodiscard]] bool fits(const float* values, index_t count) const {
    const float power = of_bits((static_cast<std::uint32_t>(low_) << 16) - (static_cast<std::uint32_t>(kExponentBias - 127) << 23));
    const float inverse = 1.0f / power;
    unsigned misfits = 0;
    for (index_t i = 0; i < count; ++i) {
      const float v = values[i];
      misfits |= (v * power * inverse == v ? 0u : 1u) | (__builtin_fabsf(v) <= kLargest ? 0u : 1u);
    }
    return misfits == 0;
  }

 private:
  std::uint16_t low_ = kLargestExponent, high_ = 0;
};

using Four = float __attribute__((vector_size(16), may_alias));
using FourAnywhere = float __attribute__((vector_size(16), may_alias, aligned(4)));

/// The rows of a 4x4 matrix become its columns: 16 elements in order, and those that are r modulo 4 for r = 0, 1, 2, 3.
inline void transpose(Four (&v)[4]) {
  const Four a = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5), b = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7);
  const Four c = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5), d = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
  v[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
  v[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  v[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
  v[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

/// Where four consecutive elements of vector r lie that belong to the 16 elements from `at` on.
template <class L>
inline index_t spread_place(index_t at, int r) {
  constexpr index_t block = 4 * L::width;
  return at / block * block + r * L::width + at % block / 4;
}

template <class L>
inline void spread(const float* from, index_t elems, float* to) {
  for (index_t at = 0; at < elems; at += 16) {
    Four v[4];
    for (int r = 0; r < 4; ++r) v[r] = *reinterpret_cast<const FourAnywhere*>(from + at + 4 * r);
    transpose(v);
    for (int r = 0; r < 4; ++r) *reinterpret_cast<Four*>(to + spread_place<L>(at, r)) = v[r];
  }
}

template <class L>
inline void gather_spread(const float* from, index_t elems, float* to) {
  for (index_t at = 0; at < elems; at += 16) {
    Four v[4];
    for (int r = 0; r < 4; ++r) v[r] = *reinterpret_cast<const Four*>(from + spread_place<L>(at, r));
    transpose(v);
    for (int r = 0; r < 4; ++r) *reinterpret_cast<Four*>(to + at + 4 * r) = v[r];
  }
}

template <class L, class Ahead>
__attribute__((always_inline)) inline void dot_bytes_row(const DotRows& a, index_t i, const float* x, Ahead& ahead) {
  using V = typename L::vector;
  constexpr int blocks = kPartials / (4 * L::width);
  V acc[blocks][4];
#pragma GCC unroll 2
  for (int n = 0; n < blocks; ++n) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) acc[n][r] = L::zero();
  }
  const Int8* const w = row_of<Int8>(a.list, i);
  const std::uint16_t* scale = a.scales + row_number(a.list, i) * a.scale_stride;
  for (index_t k = 0;; ++scale) {
    const typename L::ByteMultipliers m = L::byte_multipliers(integer_of(*scale));
    const index_t end = a.group == 0 || k + a.group > a.k ? a.k : k + a.group;
    for (; k < end; k += kPartials) {
      ahead.template step<1>(0);
#pragma GCC unroll 2
      for (int n = 0; n < blocks; ++n) {
        const index_t at = k + n * 4 * L::width;
        V weights[4];
        L::multiply_bytes(w + at, m, weights);
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) acc[n][r] = L::fma(L::load_aligned(x + at + r * L::width), weights[r], acc[n][r]);
      }
    }
    if (k >= a.k) break;
    const V turn = L::broadcast(true_power(scale[0]) * shifted_power(scale[1]));  // the sums as the next group has them
#pragma GCC unroll 2
    for (int n = 0; n < blocks; ++n) {
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) acc[n][r] = L::mul(acc[n][r], turn);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < 4 && blocks == 2; ++r) acc[0][r] = L::add(acc[0][r], acc[blocks - 1][r]);
  a.sums[i] = L::fold_spread(acc[0]) * true_power(*scale);
}

/// dot_rows of whole rows; false where it cannot be done so.
template <class L>
inline bool dot_bytes_rows(const DotRows& a) {
  constexpr index_t worth = 8;  // rows for which x is spread
  if (!a.first || !a.last || a.running || a.k > kSpreadElems || a.list.row_count < worth) return false;
  ScaleRange range;
  if (a.list.rows == nullptr) range.include(a.scales + a.list.first * a.scale_stride, a.list.row_count * a.scale_stride);
  for (index_t i = 0; i < a.list.row_count && a.list.rows != nullptr; ++i) {
    range.include(a.scales + a.list.rows[i] * a.scale_stride, a.scale_stride);
  }
  if (!range.is_fit() || !range.fits(a.x, a.k)) return false;
  alignas(64) float x[kSpreadElems];
  spread<L>(a.x, a.k, x);
  ReadAhead<1> ahead(a.list, a.next, a.asked_bytes, ahead_bytes(1, 1, a.x_stride, 1));
  for (index_t i = 0; i < a.list.row_count; ++i) {
    ahead.template over<1>(a.list.bytes, [&](auto& steps) { dot_bytes_row<L>(a, i, x, steps); });
  }
  return true;
}

/// y while rows of one group are added to it, and what their bytes are multiplied by.
template <class L>
struct SpreadSums {
  alignas(64) float y[kSpreadElems];
  alignas(64) std::uint16_t even[kSpreadElems / 2], odd[kSpreadElems / 2];  // M of two columns, each beside a 0

  /// False if the sums are too large.
  bool begin(const float* from, const std::uint16_t* scales, index_t columns) {
    unsigned too_large = 0;
    for (index_t d = 0; d < columns; d += kPartials) {
      alignas(64) float shifted[kPartials];
      for (index_t n = 0; n < kPartials; ++n) {
        shifted[n] = from[d + n] * shifted_power(scales[d + n]);
        too_large |= __builtin_fabsf(shifted[n]) <= kLargestSum ? 0u : 1u;
      }
      spread<L>(shifted, kPartials, y + d);
    }
    for (index_t n = 0; n < columns / 2; ++n) {
      std::uint32_t both;
      __builtin_memcpy(&both, scales + 2 * n, sizeof both);
      even[n] = static_cast<std::uint16_t>(integer_of(static_cast<std::uint16_t>(both)));
      odd[n] = static_cast<std::uint16_t>(integer_of(static_cast<std::uint16_t>(both >> 16)) << 8);
    }
    return too_large == 0;
  }
  void end(float* to, const std::uint16_t* scales, index_t columns) const {
    for (index_t d = 0; d < columns; d += kPartials) {
      alignas(64) float sums[kPartials];
      gather_spread<L>(y + d, kPartials, sums);
      for (index_t n = 0; n < kPartials; ++n) to[d + n] = sums[n] * true_power(scales[d + n]);
    }
  }
};

/// R rows that share their scales.
template <class L, int R, class Ahead>
inline void add_bytes_block(const AddRows& a, index_t i, SpreadSums<L>& sums, Ahead& ahead) {
  using V = typename L::vector;
  const Int8* w[R];
  V c[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    w[r] = row_of<Int8>(a.list, i + r);
    c[r] = L::broadcast(a.coefficients[i + r]);
  }
  const index_t columns = a.columns;
  for (index_t k = 0; k < columns; k += kPartials) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) ahead.template step<1>(r);
#pragma GCC unroll 2
    for (index_t d = k; d < k + kPartials; d += 4 * L::width) {
      const typename L::ByteMultipliers m = L::byte_multipliers(sums.even + d / 2, sums.odd + d / 2);
      float* const y = sums.y + d;
      V sum[4];
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) sum[v] = L::load_aligned(y + v * L::width);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        V weights[4];
        L::multiply_bytes(w[r] + d, m, weights);
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) sum[v] = L::fma(c[r], weights[v], sum[v]);
      }
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) L::store_aligned(y + v * L::width, sum[v]);
    }
  }
}

/// The first row of the list, from `first` on, that has other scales than row `first`.
inline index_t end_of_group(const AddRows& a, index_t first) {
  index_t end = first + 1;
  while (end < a.list.row_count && share_scales<Int8>(a, first, end)) ++end;
  return a.group == 0 ? a.list.row_count : end;
}

/// add_rows of one token; false where it cannot be done so.
template <class L>
inline bool add_bytes_rows(const AddRows& a) {
  constexpr index_t worth = 16, together = 8 * 1024;  // rows of a group for which y is spread; bytes
  const index_t count = a.list.row_count, groups = a.group == 0 ? 1 : row_number(a.list, count - 1) / a.group - row_number(a.list, 0) / a.group + 1;
  if (a.columns > kSpreadElems || count < worth * groups || count > kSummands) return false;
  const auto scales_of = [&](index_t i) { return a.scales + (a.group == 0 ? 0 : row_number(a.list, i) / a.group) * a.scale_stride; };
  ScaleRange range;
  for (index_t i = 0; i < count; i = end_of_group(a, i)) range.include(scales_of(i), a.columns);
  if (!range.is_fit() || !range.fits(a.coefficients, count)) return false;
  SpreadSums<L> sums;
  if (!sums.begin(a.y, scales_of(0), a.columns)) return false;
  ReadAhead<1> ahead(a.list, a.next, a.asked_bytes, ahead_bytes(1, 1, a.columns, 1));
  const index_t within = together / a.list.bytes;
  for (index_t i = 0; i < count;) {
    const index_t end = end_of_group(a, i);
    const std::uint16_t* const scales = scales_of(i);
    const auto block = [&](auto rows) {
      constexpr int R = decltype(rows)::value;
      ahead.template over<R>(R * a.list.bytes, [&](auto& steps) { add_bytes_block<L, R>(a, i, sums, steps); });
      i += R;
    };
    while (within >= 4 && i + 4 <= end) block(Constant<4>{});
    while (within >= 2 && i + 2 <= end) block(Constant<2>{});
    while (i < end) block(Constant<1>{});
    sums.end(a.y, scales, a.columns);
    if (end < count) sums.begin(a.y, scales_of(end), a.columns);
  }
  return true;
}

}  // namespace
}  // namespace signsplit::cpu
