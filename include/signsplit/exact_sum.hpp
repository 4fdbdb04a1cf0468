// ExactSum: sums doubles without any error, and rounds once.
#pragma once

#include <array>
#include <vector>

#include "signsplit/portability.hpp"

namespace signsplit {

/// A fixed-point accumulator over the whole range of double: 32-bit digits in 64-bit limbs, carries delayed (the small
/// superaccumulator of R. Neal, "Fast exact summation using small and large superaccumulators", 2015). Order-independent.
/// Infinities and NaN behave as in IEEE 754 addition: ∞ − ∞ and NaN give NaN.
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
  [[nodiscard]] bool is_nan() const noexcept;
  /// The sum, rounded once to nearest even, subnormals and overflow as IEEE 754 has them. An exact zero is +0.
  [[nodiscard]] float to_float() const noexcept;
  [[nodiscard]] double to_double() const noexcept;
  /// Finite sums only: doubles of at most 24 significant bits whose exact sum is this one, largest first; empty for zero.
  /// Multiplied by a float, each is exact in double.
  void pieces(std::vector<double>& out) const;

 private:
  void propagate() noexcept;
  static constexpr int kLimbs = 70;            // 2^-1088 .. 2^1152: double's range and room for carries
  std::array<std::int64_t, kLimbs> limb_{};    // limb i weighs 2^(32·i − 1088)
  std::uint32_t pending_ = 0;                  // additions since the last carry propagation
  double special_ = 0.0;                       // sum of the non-finite terms
};

}  // namespace signsplit
