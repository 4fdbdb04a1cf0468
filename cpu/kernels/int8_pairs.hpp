// int8 weights, one token, with integer multiplication: where an instruction multiplies pairs of 16-bit integers.
//
// A scale is a bfloat16 value, 8 bits and an exponent. Where the scales in question lie within eight binades they are M · 2^E with integers
// M < 2^15 and one E, so a weight is (M · q) · 2^E, and M · q is an integer of less than 24 bits. fma(x, scale · q, sum) rounds the same real number
// as fma(x · 2^E, M · q, sum), as long as x · 2^E is exact, which is tested: the same bits. That takes 3.5 operations for a vector of weights
// (half a widening, multiplication, conversion, FMA) in place of 4. The instruction gives the products of even and odd elements apart:
// x, and y for as long as a call takes, lie in that order. A product that is zero may have the other sign, which nobody sees: +0 is added in the end.
#pragma once

#include "token_blocks.hpp"
#include "weight_lanes.hpp"

namespace signsplit::cpu {
namespace {

/// E, of scales that are looked at in turn.
class SharedExponent {
 public:
  void include(const std::uint16_t* scales, index_t count) {
    std::uint16_t low = low_, high = high_;
    for (index_t i = 0; i < count; ++i) {
      const auto exponent = static_cast<std::uint16_t>(scales[i] & 0x7f80), of_nonzero = exponent != 0 ? exponent : kNone;
      low = of_nonzero < low ? of_nonzero : low;
      high = exponent > high ? exponent : high;
      subnormal_ |= exponent == 0 ? scales[i] & 0x7f : 0;
    }
    low_ = low;
    high_ = high;
  }
  [[nodiscard]] bool exists() const { return subnormal_ == 0 && high_ != kNone && low_ >= 8 * kOne && low_ < kNone && high_ - low_ <= 7 * kOne; }
  /// 2^E and 2^−E.
  [[nodiscard]] float power() const { return of_exponent((low_ >> 7) - 7); }
  [[nodiscard]] float inverse() const { return of_exponent(261 - (low_ >> 7)); }

 private:
  static constexpr std::uint16_t kOne = 1 << 7, kNone = 0x7f80;
  static float of_exponent(int biased) { return widen(static_cast<std::uint16_t>(biased << 7)); }
  std::uint16_t low_ = kNone, high_ = 0;
  int subnormal_ = 0;
};

constexpr index_t kPairElems = 8 * 1024;  // of a row, at most

/// to = x · power, even elements of every 2 · L::width first; false where a product is not exact.
template <class L>
inline bool spread_times(const float* x, index_t elems, float power, float inverse, float* to) {
  using V = typename L::vector;
  const V p = L::broadcast(power), back = L::broadcast(inverse);
  bool exact = true;
  for (index_t k = 0; k < elems; k += 2 * L::width) {
    const V low = L::load(x + k), high = L::load(x + k + L::width), low_p = L::mul(low, p), high_p = L::mul(high, p);
    exact &= L::all_equal(L::mul(low_p, back), low) && L::all_equal(L::mul(high_p, back), high);
    V even, odd;
    L::spread(low_p, high_p, even, odd);
    L::store_aligned(to + k, even);
    L::store_aligned(to + k + L::width, odd);
  }
  return exact;
}

template <class L, class Ahead>
inline void dot_pair_row(const DotRows& a, index_t i, const float* x, float inverse, Ahead& ahead) {
  constexpr int count = kPartials / L::width;
  typename L::vector acc[count];
#pragma GCC unroll 8
  for (int v = 0; v < count; ++v) acc[v] = L::zero();
  const Int8* const w = row_of<Int8>(a.list, i);
  const std::uint16_t* scale = a.scales + row_number(a.list, i) * a.scale_stride;
  for (index_t k = 0; k < a.k; ++scale) {
    const typename L::Multipliers m = L::multipliers(static_cast<int>(widen(*scale) * inverse));
    const index_t end = a.group == 0 || k + a.group > a.k ? a.k : k + a.group;
    for (; k < end; k += kPartials) {
      ahead.template step<1>(0);
#pragma GCC unroll 4
      for (int v = 0; v < count; v += 2) {
        typename L::vector even, odd;
        L::multiply_pairs(w + k + v * L::width, m, even, odd);
        acc[v] = L::fma(L::load_aligned(x + k + v * L::width), even, acc[v]);
        acc[v + 1] = L::fma(L::load_aligned(x + k + (v + 1) * L::width), odd, acc[v + 1]);
      }
    }
  }
#pragma GCC unroll 4
  for (int half = count / 2; half >= 2; half /= 2) {
#pragma GCC unroll 8
    for (int v = 0; v < half; ++v) acc[v] = L::add(acc[v], acc[v + half]);
  }
  a.sums[i] = L::fold(acc[0]) + L::fold(acc[1]);
}

/// dot_rows of whole rows; false where it cannot be done so.
template <class L>
inline bool dot_pair_rows(const DotRows& a) {
  constexpr index_t worth = 8;  // rows for which x is laid out
  if (!a.first || !a.last || a.k > kPairElems || a.list.row_count < worth) return false;
  SharedExponent shared;
  if (a.list.rows == nullptr) shared.include(a.scales + a.list.first * a.scale_stride, a.list.row_count * a.scale_stride);
  for (index_t i = 0; i < a.list.row_count && a.list.rows != nullptr; ++i) {
    shared.include(a.scales + a.list.rows[i] * a.scale_stride, a.scale_stride);
  }
  alignas(64) float x[kPairElems];
  if (!shared.exists() || !spread_times<L>(a.x, a.k, shared.power(), shared.inverse(), x)) return false;
  ReadAhead<1> ahead(a.list, a.next, a.asked_bytes, ahead_bytes(1, 1, a.x_stride, 1));
  for (index_t i = 0; i < a.list.row_count; ++i) {
    ahead.template over<1>(a.list.bytes, [&](auto& steps) { dot_pair_row<L>(a, i, x, shared.inverse(), steps); });
  }
  return true;
}

/// R rows that share their scales into y, which lies even elements first.
template <class L, int R, class Ahead>
inline void add_pair_block(const AddRows& a, index_t i, float power, const typename L::Multipliers* m, Ahead& ahead) {
  using V = typename L::vector;
  const Int8* w[R];
  V c[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    w[r] = row_of<Int8>(a.list, i + r);
    c[r] = L::broadcast(a.coefficients[i + r] * power);
  }
  for (index_t k = 0; k < a.columns; k += kPartials) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) ahead.template step<1>(r);
#pragma GCC unroll 4
    for (index_t d = k; d < k + kPartials; d += 2 * L::width) {
      const typename L::Multipliers here = m[d / (2 * L::width)];
      V y_even = L::load_aligned(a.y + d), y_odd = L::load_aligned(a.y + d + L::width);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        V even, odd;
        L::multiply_pairs(w[r] + d, here, even, odd);
        y_even = L::fma(c[r], even, y_even);
        y_odd = L::fma(c[r], odd, y_odd);
      }
      L::store_aligned(a.y + d, y_even);
      L::store_aligned(a.y + d + L::width, y_odd);
    }
  }
}

/// The exponent that the scales of all rows share, if the products of 2^E with all coefficients are exact.
inline bool share_exponent(const AddRows& a, SharedExponent& shared) {
  if (a.group == 0) shared.include(a.scales, a.columns);
  index_t seen = -1;
  for (index_t i = 0; i < a.list.row_count && a.group != 0; ++i) {
    const index_t group = row_number(a.list, i) / a.group;
    if (group != seen) shared.include(a.scales + group * a.scale_stride, a.columns);
    seen = group;
  }
  if (!shared.exists()) return false;
  const float power = shared.power(), inverse = shared.inverse();
  int inexact = 0;
  for (index_t i = 0; i < a.list.row_count; ++i) inexact |= a.coefficients[i] * power * inverse != a.coefficients[i] ? 1 : 0;
  return inexact == 0;
}

/// add_rows of one token; false where it cannot be done so.
template <class L>
inline bool add_pair_rows(const AddRows& a) {
  constexpr index_t worth = 16, together = 8 * 1024;  // rows for which y is laid out; bytes
  SharedExponent shared;
  if (a.columns > kPairElems || a.list.row_count < worth || !share_exponent(a, shared)) return false;
  for (index_t d = 0; d < a.columns; d += 2 * L::width) {
    typename L::vector even, odd;
    L::spread(L::load_aligned(a.y + d), L::load_aligned(a.y + d + L::width), even, odd);
    L::store_aligned(a.y + d, even);
    L::store_aligned(a.y + d + L::width, odd);
  }
  typename L::Multipliers m[kPairElems / (2 * L::width)];
  index_t known = -1;
  ReadAhead<1> ahead(a.list, a.next, a.asked_bytes, ahead_bytes(1, 1, a.columns, 1));
  const index_t count = a.list.row_count, within = together / a.list.bytes;
  index_t i = 0;
  while (i < count) {
    const index_t group = a.group == 0 ? 0 : row_number(a.list, i) / a.group;
    for (index_t d = 0; d < a.columns && group != known; d += 2 * L::width) {
      m[d / (2 * L::width)] = L::multipliers(a.scales + group * a.scale_stride + d, shared.inverse());
    }
    known = group;
    const auto block = [&](auto rows) {
      constexpr int R = decltype(rows)::value;
      ahead.template over<R>(R * a.list.bytes, [&](auto& steps) { add_pair_block<L, R>(a, i, shared.power(), m, steps); });
      i += R;
    };
    if (within >= 4 && i + 4 <= count && share_scales<Int8>(a, i, i + 3)) {
      block(Constant<4>{});
    } else if (within >= 2 && i + 2 <= count && share_scales<Int8>(a, i, i + 1)) {
      block(Constant<2>{});
    } else {
      block(Constant<1>{});
    }
  }
  for (index_t d = 0; d < a.columns; d += 2 * L::width) {
    typename L::vector low, high;
    L::unspread(L::load_aligned(a.y + d), L::load_aligned(a.y + d + L::width), low, high);
    L::store_aligned(a.y + d, low);
    L::store_aligned(a.y + d + L::width, high);
  }
  return true;
}

}  // namespace
}  // namespace signsplit::cpu
