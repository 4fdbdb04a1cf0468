// One token as the certificate wants it: 15-bit integers with a step per group, and what the rest of x can do at most.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "approximate.hpp"
#include "signsplit/certificate.hpp"

namespace signsplit {
namespace {

constexpr double kMaxNorm = 0x1p50;
/// Covers the roundings of sums in double and of conversions to float: at most 2^24 additions, 2^-28 in all.
constexpr double kInflate = 1.0 + 0x1p-20;

/// An f32 that is not below a sum ≥ 0 computed as `value`.
float upper_float(double value) {
  const float nearest = static_cast<float>(value * kInflate);
  const bool subnormal = nearest < std::numeric_limits<float>::min() && value > 0.0;
  return subnormal ? std::nextafter(nearest, 1.0f) : nearest;
}

/// A normal number with |x / step| ≤ kMaxQuantizedX for |x| ≤ largest.
float step_for(double largest) {
  const double least = largest / kMaxQuantizedX;
  float step = std::max(static_cast<float>(least), std::numeric_limits<float>::min());
  if (static_cast<double>(step) < least) step = std::nextafter(step, std::numeric_limits<float>::infinity());
  return step;
}

struct GroupSums {
  double error = 0.0;    ///< Σ|x − step·X|
  double squares = 0.0;  ///< Σx²
};

/// Eight sums at once, so that none waits for the addition before it.
constexpr index_t kLanes = 8;
double total(const double (&sums)[kLanes]) {
  double sum = 0.0;
  for (const double one : sums) sum += one;
  return sum;
}

double largest_magnitude(const float* x, index_t columns) {
  std::uint32_t bits = 0;  // magnitudes are ordered as their bits are
  for (index_t k = 0; k < columns; ++k) bits = std::max(bits, std::bit_cast<std::uint32_t>(x[k]) & 0x7fffffffu);
  return static_cast<double>(std::bit_cast<float>(bits));
}

/// The integers of one group.
GroupSums quantize_group(const float* x, index_t columns, QuantizedQuad* quads, QuantizedGroup& group) {
  constexpr float kToNearest = 0x1.8p23f;  // adding it leaves no bits for a fraction
  group.step = step_for(largest_magnitude(x, columns));
  const double step = static_cast<double>(group.step);
  const float inverse = 1.0f / group.step;
  double errors[kLanes] = {}, squares[kLanes] = {};
  std::int32_t high_sum = 0, low_sum = 0;
  for (index_t k = 0; k < columns; k += kLanes) {
    std::int32_t integers[kLanes], highs[kLanes], lows[kLanes];
    for (index_t i = 0; i < kLanes; ++i) {
      // Any integer in the range will do, since the error is taken from what it came to; it is within 1 of the nearest.
      const float rounded = (x[k + i] * inverse + kToNearest) - kToNearest;
      integers[i] = std::clamp(static_cast<std::int32_t>(rounded), -kMaxQuantizedX, kMaxQuantizedX);
      highs[i] = (integers[i] + 64) >> 7;
      lows[i] = integers[i] - highs[i] * 128;
      high_sum += highs[i];
      low_sum += lows[i];
      const double value = static_cast<double>(x[k + i]);
      errors[i] += std::fabs(value - step * static_cast<double>(integers[i]));
      squares[i] += value * value;
    }
    for (index_t i = 0; i < kLanes; i += 4) {
      quads[(k + i) / 4] = {{static_cast<std::int8_t>(highs[i]), static_cast<std::int8_t>(highs[i + 1]),
                             static_cast<std::int8_t>(highs[i + 2]), static_cast<std::int8_t>(highs[i + 3])},
                            {static_cast<std::int8_t>(lows[i]), static_cast<std::int8_t>(lows[i + 1]),
                             static_cast<std::int8_t>(lows[i + 2]), static_cast<std::int8_t>(lows[i + 3])},
                            {static_cast<std::int16_t>(integers[i]), static_cast<std::int16_t>(integers[i + 2])},
                            {static_cast<std::int16_t>(integers[i + 1]), static_cast<std::int16_t>(integers[i + 3])}};
    }
  }
  group.start_high = -128 * high_sum;
  group.start_low = -128 * low_sum;
  group.start = 128 * group.start_high + group.start_low;
  return {total(errors), total(squares)};
}

/// Elements of x that stand out are bounded by the largest residual, half a scale: |R·x| ≤ ½s·Σ|x|; the others by
/// Cauchy–Schwarz. Any division is valid. Elements beyond ‖x‖·√12/√n stand out: rounding errors are about uniform, so that
/// ‖R‖ is about s·√(n/12), and there half a scale is the lesser price.
struct Division {
  double outstanding = 0.0;  ///< Σ|x| of the elements that stand out
  double squares = 0.0;      ///< Σx² of the others
};
Division divide(const float* x, index_t columns, double squares) {
  Division division{0.0, squares};
  const double largest = largest_magnitude(x, columns);
  for (int round = 0; round < 3; ++round) {
    const double limit = division.squares * 12.0 / static_cast<double>(columns);
    if (largest * largest <= limit) break;  // nothing stands out: the ordinary case
    Division next;
    for (index_t k = 0; k < columns; ++k) {
      const double value = static_cast<double>(x[k]);
      (value * value > limit ? next.outstanding : next.squares) += value * value > limit ? std::fabs(value) : value * value;
    }
    if (next.outstanding == division.outstanding) break;
    division = next;
  }
  return division;
}

}  // namespace

QuantizedToken quantize_token(PanelLayout layout, const float* x, QuantizedQuad* quads, QuantizedGroup* groups) noexcept {
  QuantizedToken token{quads, groups, std::numeric_limits<float>::infinity()};
  const index_t count = layout.groups();
  if (!(largest_magnitude(x, layout.columns) <= kMaxNorm)) {  // false for NaN, whose bits are above those of infinity
    std::fill_n(quads, layout.columns / 4, QuantizedQuad{});
    std::fill_n(groups, count, QuantizedGroup{1.0f, 0.0f, 0.0f, 0, 0, 0});
    return token;
  }
  const double roundings = 1.0 + 2.0 * gamma(2 * count + 2);  // of the sum of bounds itself
  double squares = 0.0, error = 0.0;
  for (index_t g = 0; g < count; ++g) {
    const index_t begin = g * layout.group, columns = layout.columns_of(g);
    const GroupSums sums = quantize_group(x + begin, columns, quads + begin / 4, groups[g]);
    const Division division = divide(x + begin, columns, sums.squares);
    // |S| ≤ 127·s, and 128 leaves room for |R| being a rounding above s/2.
    groups[g].per_scale = upper_float((128.0 * sums.error + 0.5 * division.outstanding) * roundings);
    groups[g].per_norm = upper_float(std::sqrt(division.squares) * roundings);
    squares += sums.squares;
    error += sums.error;
  }
  const double norm = std::sqrt(squares) + error;  // of x, and of its quantization
  if (norm * kInflate <= kMaxNorm) {
    const double canonical = gamma(layout.columns / kAccumulators + 7), own = gamma(count + 3);
    token.margin = upper_float((canonical + own) * norm * roundings * (1.0 + 0x1p-10));
  }
  return token;
}

}  // namespace signsplit
