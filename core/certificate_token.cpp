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
  double largest = 0.0;  ///< max|x|
};

/// Eight sums at once, so that none waits for the addition before it.
constexpr index_t kLanes = 8;
double total(const double (&sums)[kLanes]) {
  double sum = 0.0;
  for (const double one : sums) sum += one;
  return sum;
}

double largest_magnitude(const float* x, index_t columns) {
  std::int32_t bits = 0;  // magnitudes are ordered as their bits are
  for (index_t k = 0; k < columns; ++k) bits = std::max(bits, std::bit_cast<std::int32_t>(x[k]) & 0x7fffffff);
  return static_cast<double>(std::bit_cast<float>(bits));
}

/// Columns come by 64: loops of a known length, one operation each, that compilers turn into vectors.
constexpr index_t kBlock = 64;

struct BlockIntegers {
  std::int32_t integers[kBlock];
  std::int16_t halves[kBlock];
  std::int8_t highs[kBlock], lows[kBlock];
};

/// X = 128·high + low. Any integer in the range will do, since the error is taken from what it came to; it is within 1 of the nearest.
void round_block(const float* x, float inverse, BlockIntegers& block, std::int32_t& high_sum, std::int32_t& low_sum) {
  constexpr float kToNearest = 0x1.8p23f, kMost = static_cast<float>(kMaxQuantizedX);  // adding the first leaves no bits for a fraction
  for (index_t k = 0; k < kBlock; ++k) {
    float rounded = (x[k] * inverse + kToNearest) - kToNearest;
    rounded = rounded < kMost ? rounded : kMost;
    rounded = rounded > -kMost ? rounded : -kMost;
    block.integers[k] = static_cast<std::int32_t>(rounded);
  }
  for (index_t k = 0; k < kBlock; ++k) {
    const std::int32_t integer = block.integers[k], high = (integer + 64) >> 7, low = integer - high * 128;
    block.halves[k] = static_cast<std::int16_t>(integer);
    block.highs[k] = static_cast<std::int8_t>(high);
    block.lows[k] = static_cast<std::int8_t>(low);
    high_sum += high;
    low_sum += low;
  }
}

void store_block(const BlockIntegers& block, QuantizedQuad* quads) {
  for (index_t k = 0; k < kBlock; k += 4, ++quads) {
    std::copy_n(block.highs + k, 4, quads->high);
    std::copy_n(block.lows + k, 4, quads->low);
    quads->even[0] = block.halves[k];
    quads->even[1] = block.halves[k + 2];
    quads->odd[0] = block.halves[k + 1];
    quads->odd[1] = block.halves[k + 3];
  }
}

/// The integers of one group.
GroupSums quantize_group(const float* x, index_t columns, QuantizedQuad* quads, QuantizedGroup& group) {
  const double largest = largest_magnitude(x, columns);
  group.step = step_for(largest);
  const double step = static_cast<double>(group.step);
  const float inverse = 1.0f / group.step;
  double errors[kLanes] = {}, squares[kLanes] = {};
  std::int32_t high_sum = 0, low_sum = 0;
  BlockIntegers block;
  for (index_t begin = 0; begin < columns; begin += kBlock) {
    round_block(x + begin, inverse, block, high_sum, low_sum);
    store_block(block, quads + begin / 4);
    for (index_t k = 0; k < kBlock; k += kLanes) {
      for (index_t i = 0; i < kLanes; ++i) {
        const double value = static_cast<double>(x[begin + k + i]);
        errors[i] += std::fabs(value - step * static_cast<double>(block.integers[k + i]));
        squares[i] += value * value;
      }
    }
  }
  group.start_high = -128 * high_sum;
  group.start_low = -128 * low_sum;
  group.start = 128 * group.start_high + group.start_low;
  return {total(errors), total(squares), largest};
}

/// Elements of x that stand out are bounded by the largest residual, half a scale: |R·x| ≤ ½s·Σ|x|; the others by
/// Cauchy–Schwarz. Any division is valid. Elements beyond ‖x‖·√12/√n stand out: rounding errors are about uniform, so that
/// ‖R‖ is about s·√(n/12), and there half a scale is the lesser price.
struct Division {
  double outstanding = 0.0;  ///< Σ|x| of the elements that stand out
  double squares = 0.0;      ///< Σx² of the others
};
Division divide(const float* x, index_t columns, const GroupSums& sums) {
  Division division{0.0, sums.squares};
  for (int round = 0; round < 3; ++round) {
    const double limit = division.squares * 12.0 / static_cast<double>(columns);
    if (sums.largest * sums.largest <= limit) break;  // nothing stands out: the ordinary case
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
  const double roundings = 1.0 + 2.0 * gamma(count + 3);  // of the sum of bounds itself
  double squares = 0.0, error = 0.0;
  for (index_t g = 0; g < count; ++g) {
    const index_t begin = g * layout.group, columns = layout.columns_of(g);
    const GroupSums sums = quantize_group(x + begin, columns, quads + begin / 4, groups[g]);
    const Division division = divide(x + begin, columns, sums);
    // |S| ≤ 127·s, and 128 leaves room for |R| being a rounding above s/2.
    groups[g].per_scale = upper_float((128.0 * sums.error + 0.5 * division.outstanding) * roundings);
    groups[g].per_code = upper_float(std::sqrt(division.squares) * residual_unit(columns) * roundings);
    // What the residual's code adds to it must not underflow: that would count as often as the scale is large.
    if (sums.largest > 0.0) groups[g].per_scale = std::max(groups[g].per_scale, std::numeric_limits<float>::min());
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
