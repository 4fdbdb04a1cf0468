// One token as the certificate wants it: 15-bit integers with a step per group, and what the rest of x can do at most.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "approximate.hpp"
#include "quantize_group.hpp"
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

double largest_magnitude(const float* x, index_t columns) {
  std::int32_t bits = 0;  // magnitudes are ordered as their bits are
  for (index_t k = 0; k < columns; ++k) bits = std::max(bits, std::bit_cast<std::int32_t>(x[k]) & 0x7fffffff);
  return static_cast<double>(std::bit_cast<float>(bits));
}

/// Elements of x that stand out are bounded by the largest residual, half a scale: |R·x| ≤ ½s·Σ|x|; the others by
/// Cauchy–Schwarz. Any division is valid. Elements beyond ‖x‖·√12/√n stand out: rounding errors are about uniform, so that
/// ‖R‖ is about s·√(n/12), and there half a scale is the lesser price.
struct Division {
  double outstanding = 0.0;  ///< Σ|x| of the elements that stand out
  double squares = 0.0;      ///< Σx² of the others
};
Division divide(const float* x, index_t columns, double largest, const GroupSums& sums) {
  Division division{0.0, sums.squares};
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

GroupSums quantize_group(const float* x, index_t columns, QuantizedQuad* quads, QuantizedGroup& group) {
  return quantize_columns(x, columns, quads, group);
}

QuantizedToken quantize_token(PanelLayout layout, const float* x, QuantizedQuad* quads, QuantizedGroup* groups,
                              QuantizeGroup quantize) noexcept {
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
    const double largest = largest_magnitude(x + begin, columns);
    groups[g].step = step_for(largest);
    const GroupSums sums = quantize(x + begin, columns, quads + begin / 4, groups[g]);
    const Division division = divide(x + begin, columns, largest, sums);
    // |S| ≤ 127·s, and 128 leaves room for |R| being a rounding above s/2.
    groups[g].per_scale = upper_float((128.0 * sums.error + 0.5 * division.outstanding) * roundings);
    groups[g].per_code = upper_float(std::sqrt(division.squares) * residual_unit(columns) * roundings);
    // What the residual's code adds to it must not underflow: that would count as often as the scale is large.
    if (largest > 0.0) groups[g].per_scale = std::max(groups[g].per_scale, std::numeric_limits<float>::min());
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
