// Small robust least squares: a handful of positive parameters, hundreds of residuals.
#pragma once

#include <functional>
#include <vector>

namespace signsplit::sim {

/// Residuals as a function of the logarithms of the parameters; always the same number of them. Called from several threads at once.
using Residuals = std::function<void(const std::vector<double>& log_parameters, std::vector<double>& residuals)>;

struct LeastSquaresFit {
  std::vector<double> log_parameters;
  double cost = 0;  ///< Σ of the robust loss
};

/// Levenberg–Marquardt on Σ 2·scale²·(√(1 + (r/scale)²) − 1): quadratic for residuals well below `scale`, linear above, so
/// that outliers do not bend the fit. The Jacobian is by differences. Residuals that are not finite count as very bad. Ends after so many
/// iterations, or with one that gains less than a share `least_gain` of the cost.
[[nodiscard]] LeastSquaresFit minimise(const Residuals& residuals, std::vector<double> log_start, double scale, int iterations,
                                       double least_gain = 1e-9);

}  // namespace signsplit::sim
