// BigFixed: an independent, slow, obviously right sum of doubles to test ExactSum against. A two's complement integer of
// 2400 bits; terms go in bit by bit; rounding is a search among the floats by comparison, ties by looking at both
// neighbours. It shares neither layout nor method with core/exact_sum.cpp.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace signsplit::test {

class BigFixed {
 public:
  BigFixed() = default;
  explicit BigFixed(double value) { add(value); }

  /// Adds a finite double.
  void add(double value) { add_scaled(value, 0); }

  /// Adds a·b for doubles whose product does not come near the limits of the range: two terms.
  void add_product(double a, double b) {
    const double product = a * b;
    add(product);
    add(std::fma(a, b, -product));
  }

  [[nodiscard]] int sign() const {
    if ((words_.back() & 0x80000000u) != 0) return -1;
    for (const std::uint32_t word : words_) {
      if (word != 0) return 1;
    }
    return 0;
  }

  /// The sign of *this − other.
  [[nodiscard]] int compare(const BigFixed& other) const { return minus(other).sign(); }

  [[nodiscard]] float to_float() const { return static_cast<float>(round(0x7f800000u, &float_at)); }
  [[nodiscard]] double to_double() const { return round(0x7ff0000000000000u, &double_at); }

 private:
  static constexpr int kLowest = -1160;  // exponent of bit 0

  static double float_at(std::uint64_t rank) { return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(rank))); }
  static double double_at(std::uint64_t rank) { return std::bit_cast<double>(rank); }

  void add_scaled(double value, int scale) {
    int exponent = 0;
    const double fraction = std::frexp(std::abs(value), &exponent);  // in [0.5, 1)
    auto mantissa = static_cast<std::uint64_t>(std::ldexp(fraction, 53));
    BigFixed term;
    for (int bit = exponent - 53 + scale - kLowest; mantissa != 0; mantissa >>= 1, ++bit) {
      if ((mantissa & 1u) != 0) term.words_[static_cast<std::size_t>(bit / 32)] |= 1u << (bit % 32);
    }
    *this = value < 0 ? minus(term) : minus(BigFixed{}.minus(term));
  }

  [[nodiscard]] BigFixed minus(const BigFixed& other) const {
    BigFixed result;
    std::uint64_t carry = 1;  // a − b = a + ~b + 1
    for (std::size_t i = 0; i < words_.size(); ++i) {
      carry += std::uint64_t{words_[i]} + std::uint64_t{static_cast<std::uint32_t>(~other.words_[i])};
      result.words_[i] = static_cast<std::uint32_t>(carry);
      carry >>= 32;
    }
    return result;
  }

  // Value of a rank; the rank of infinity stands for the power of two after the largest number.
  template <class At>
  [[nodiscard]] static BigFixed at(std::uint64_t rank, std::uint64_t infinity, At value) {
    BigFixed result;
    result.add_scaled(rank == infinity ? 1.0 : value(rank), rank == infinity ? (infinity == 0x7f800000u ? 128 : 1024) : 0);
    return result;
  }

  template <class At>
  [[nodiscard]] double round(std::uint64_t infinity, At value) const {
    if (sign() == 0) return 0.0;
    const bool negative = sign() < 0;
    const BigFixed magnitude = negative ? BigFixed{}.minus(*this) : *this;
    std::uint64_t below = 0, above = infinity;  // at(below) ≤ magnitude, and magnitude < at(above) unless it overflows
    while (above - below > 1) {
      const std::uint64_t middle = below + (above - below) / 2;
      (magnitude.compare(at(middle, infinity, value)) >= 0 ? below : above) = middle;
    }
    const BigFixed to_below = magnitude.minus(at(below, infinity, value));
    const BigFixed to_above = at(above, infinity, value).minus(magnitude);
    const int nearer = to_below.compare(to_above);  // −1: below is nearer
    const std::uint64_t rank = nearer < 0 ? below : nearer > 0 ? above : (below % 2 == 0 ? below : above);
    const double result = value(rank);
    return negative ? -result : result;
  }

  std::vector<std::uint32_t> words_ = std::vector<std::uint32_t>(76, 0u);
};

}  // namespace signsplit::test
