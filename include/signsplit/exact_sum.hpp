// ExactSum: sums doubles without any error, and rounds once.
#pragma once

#include <array>
#include <bit>
#include <vector>

#include "signsplit/portability.hpp"

namespace signsplit {

/// A fixed-point accumulator over the whole range of double: 32-bit digits in 64-bit limbs, carries delayed (the small
/// superaccumulator of R. Neal, "Fast exact summation using small and large superaccumulators", 2015). Order-independent.
/// Room for 2^64 terms. Infinities and NaN behave as in IEEE 754 addition: ∞ − ∞ and NaN give NaN.
class ExactSum {
 public:
  /// Adds any double, exactly.
  void add(double value) noexcept;
  /// Adds a·b, exact because 24 + 24 bits fit in 53 and the exponents of two floats cannot leave the range of double.
  void add_product(float a, float b) noexcept { add(static_cast<double>(a) * static_cast<double>(b)); }
  /// Adds another sum, exactly.
  void add(const ExactSum& other) noexcept;
  void clear() noexcept { *this = ExactSum{}; }

  /// −1, 0 or +1; of a NaN 0.
  [[nodiscard]] int sign() const noexcept;
  [[nodiscard]] bool is_nan() const noexcept { return special_ != special_; }
  /// False once an infinity or a NaN was added. A finite sum may still round to infinity.
  [[nodiscard]] bool is_finite() const noexcept { return special_ == 0.0; }
  /// The sum, rounded once to nearest even, subnormals and overflow as IEEE 754 has them: a negative sum too small for a
  /// subnormal gives −0. An exact zero is +0. A NaN is the canonical quiet NaN (0x7fc00000, 0x7ff8000000000000).
  [[nodiscard]] float to_float() const noexcept;
  [[nodiscard]] double to_double() const noexcept;
  /// Finite sums below 2^1024 only: doubles of at most `bits` significant bits (1 to 53) whose exact sum is this one,
  /// largest first, all of one sign; empty for zero. With 24 bits, each times a float is exact in double, unless it
  /// leaves the range: no sum of products of floats does. May throw std::bad_alloc.
  void pieces(std::vector<double>& out, int bits = 24) const;

 private:
  struct Magnitude;
  [[nodiscard]] Magnitude magnitude() const noexcept;
  void propagate() noexcept;
  static constexpr int kLimbs = 70;            // 2^-1088 .. 2^1152: double's range and room for carries
  static constexpr int kExponentShift = 13;    // 1088 − 1075: a biased exponent e weighs its lowest bit 2^(e − 1075)
  static constexpr std::uint32_t kMaxPending = 1000;  // each moves a limb by less than 2^53 + 2^32: 2^63 is never met
  std::array<std::int64_t, kLimbs> limb_{};    // limb i weighs 2^(32·i − 1088)
  std::uint32_t pending_ = 0;                  // additions since the last carry propagation
  double special_ = 0.0;                       // sum of the non-finite terms
};

// In the header because it is the inner loop of the reference: two limbs, no branch but for the two rare cases.
inline void ExactSum::add(double value) noexcept {
  const auto bits = std::bit_cast<std::uint64_t>(value);
  const std::uint64_t exponent = (bits >> 52) & 0x7ffu;
  if (exponent == 0x7ffu) [[unlikely]] {
    special_ += value;
    return;
  }
  if (pending_ == kMaxPending) [[unlikely]] propagate();
  ++pending_;
  const std::uint64_t normal = exponent != 0 ? 1u : 0u;
  const std::uint64_t mantissa = (bits & 0xfffffffffffffu) | (normal << 52);
  const std::uint64_t position = exponent + (1u - normal) + kExponentShift;  // a subnormal has the exponent of the least normal
  const std::uint64_t shift = position & 31u;
  const auto low = static_cast<std::int64_t>((mantissa << shift) & 0xffffffffu);
  const auto high = static_cast<std::int64_t>(mantissa >> (32u - shift));
  const auto negate = static_cast<std::int64_t>(bits) >> 63;  // 0, or −1: (v ^ −1) − (−1) = −v
  std::int64_t* const limb = limb_.data() + (position >> 5);
  limb[0] += (low ^ negate) - negate;
  limb[1] += (high ^ negate) - negate;
}

}  // namespace signsplit
