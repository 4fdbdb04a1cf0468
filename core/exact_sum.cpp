#include "signsplit/exact_sum.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace signsplit {
namespace {

constexpr int kLowestBit = -1088;  // exponent of bit 0 of limb 0
constexpr std::int64_t kDigitMask = 0xffffffff;

constexpr float kNanF32 = std::bit_cast<float>(0x7fc00000u);
constexpr double kNanF64 = std::bit_cast<double>(std::uint64_t{0x7ff8000000000000u});

}  // namespace

// The finite part as sign and digits. Bits are numbered from 0, the lowest of digit 0.
struct ExactSum::Magnitude {
  std::array<std::uint32_t, kLimbs> digit{};
  bool negative = false;

  [[nodiscard]] bool bit(int index) const noexcept { return ((digit[static_cast<std::size_t>(index) / 32] >> (index % 32)) & 1u) != 0; }

  /// The highest set bit below `limit`, or −1.
  [[nodiscard]] int highest_bit(int limit) const noexcept {
    int index = limit - 1;
    while (index >= 0 && !bit(index)) {
      const bool digit_is_zero = index % 32 == 31 && digit[static_cast<std::size_t>(index) / 32] == 0;
      index -= digit_is_zero ? 32 : 1;
    }
    return index;
  }

  /// Bits [low, high] as an integer, high − low < 64; 0 when high < low.
  [[nodiscard]] std::uint64_t field(int low, int high) const noexcept {
    std::uint64_t value = 0;
    for (int index = high; index >= low; --index) value = value << 1 | (bit(index) ? 1u : 0u);
    return value;
  }

  /// Rounded to nearest even, to `precision` bits and to multiples of 2^lowest; not limited above. The result is a double
  /// unless it is 2^1024, and the sign of what it rounds is kept.
  [[nodiscard]] double round(int precision, int lowest) const noexcept {
    const int top = highest_bit(kLimbs * 32);
    if (top < 0) return 0.0;
    const int unit = std::max(top - precision + 1, lowest - kLowestBit);
    std::uint64_t value = field(unit, top);
    const bool half = bit(unit - 1), rest = highest_bit(unit - 1) >= 0;
    if (half && (rest || (value & 1u) != 0)) ++value;
    const double result = std::ldexp(static_cast<double>(value), unit + kLowestBit);
    return negative ? -result : result;
  }
};

void ExactSum::propagate() noexcept {
  std::int64_t carry = 0;
  for (std::size_t i = 0; i + 1 < kLimbs; ++i) {
    const std::int64_t value = limb_[i] + carry;
    limb_[i] = value & kDigitMask;
    carry = value >> 32;  // rounds down: digits end in [0, 2^32), the sign moves up to the last limb
  }
  limb_[kLimbs - 1] += carry;
  pending_ = 0;
}

void ExactSum::add(const ExactSum& other) noexcept {
  ExactSum addend = other;  // a copy: other may be this sum, and its limbs must be digits
  addend.propagate();
  propagate();
  for (std::size_t i = 0; i < kLimbs; ++i) limb_[i] += addend.limb_[i];
  special_ += addend.special_;
  pending_ = 1;
}

ExactSum::Magnitude ExactSum::magnitude() const noexcept {
  ExactSum sum = *this;
  sum.propagate();
  Magnitude result;
  result.negative = sum.limb_[kLimbs - 1] < 0;
  if (result.negative) {
    for (std::int64_t& limb : sum.limb_) limb = -limb;
    sum.propagate();
  }
  for (std::size_t i = 0; i < kLimbs; ++i) result.digit[i] = static_cast<std::uint32_t>(sum.limb_[i]);
  return result;
}

int ExactSum::sign() const noexcept {
  if (is_nan()) return 0;
  if (!is_finite()) return special_ > 0.0 ? 1 : -1;
  ExactSum sum = *this;
  sum.propagate();
  if (sum.limb_[kLimbs - 1] < 0) return -1;
  for (const std::int64_t limb : sum.limb_) {
    if (limb != 0) return 1;
  }
  return 0;
}

float ExactSum::to_float() const noexcept {
  if (is_nan()) return kNanF32;
  if (!is_finite()) return static_cast<float>(special_);
  const double rounded = magnitude().round(24, -149);
  if (std::abs(rounded) > static_cast<double>(std::numeric_limits<float>::max())) {
    return std::copysign(std::numeric_limits<float>::infinity(), static_cast<float>(std::copysign(1.0, rounded)));
  }
  return static_cast<float>(rounded);  // exact
}

double ExactSum::to_double() const noexcept {
  if (is_nan()) return kNanF64;
  if (!is_finite()) return special_;
  return magnitude().round(53, -1074);
}

void ExactSum::pieces(std::vector<double>& out, int bits) const {
  out.clear();
  const Magnitude value = magnitude();
  for (int top = value.highest_bit(kLimbs * 32); top >= 0;) {
    const int low = std::max(top - bits + 1, 0);
    const double piece = std::ldexp(static_cast<double>(value.field(low, top)), low + kLowestBit);
    out.push_back(value.negative ? -piece : piece);
    top = value.highest_bit(low);
  }
}

}  // namespace signsplit
