// Quantiles of what was measured.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace signsplit {

/// Linear interpolation between order statistics. `sorted` is not empty; q lies in [0, 1].
[[nodiscard]] inline double quantile(const std::vector<double>& sorted, double q) {
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

/// Of values in any order; of none 0.
[[nodiscard]] inline double median(std::vector<double> values) {
  if (values.empty()) return 0.0;
  std::sort(values.begin(), values.end());
  return quantile(values, 0.5);
}

}  // namespace signsplit
