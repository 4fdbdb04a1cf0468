#include "least_squares.hpp"

#include <algorithm>
#include <cmath>
#include <exception>

namespace signsplit::sim {
namespace {

double robust_cost(const std::vector<double>& residuals, double scale) {
  double sum = 0;
  for (const double r : residuals) {
    if (!std::isfinite(r)) return 1e300;
    sum += 2.0 * scale * scale * (std::sqrt(1.0 + (r / scale) * (r / scale)) - 1.0);
  }
  return sum;
}

/// Solves the symmetric positive system in place by Cholesky; false when it is not positive definite.
bool solve(std::vector<double>& a, std::vector<double>& b) {
  const std::size_t n = b.size();
  for (std::size_t j = 0; j < n; ++j) {
    for (std::size_t k = 0; k < j; ++k) a[j * n + j] -= a[j * n + k] * a[j * n + k];
    if (!(a[j * n + j] > 0.0)) return false;
    a[j * n + j] = std::sqrt(a[j * n + j]);
    for (std::size_t i = j + 1; i < n; ++i) {
      for (std::size_t k = 0; k < j; ++k) a[i * n + j] -= a[i * n + k] * a[j * n + k];
      a[i * n + j] /= a[j * n + j];
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < i; ++k) b[i] -= a[i * n + k] * b[k];
    b[i] /= a[i * n + i];
  }
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t k = i + 1; k < n; ++k) b[i] -= a[k * n + i] * b[k];
    b[i] /= a[i * n + i];
  }
  return true;
}

/// JᵀWJ and −JᵀWr of the weighted problem whose gradient is that of the robust one.
void normal_equations(const Residuals& residuals, const std::vector<double>& at, const std::vector<double>& r, double scale,
                      std::vector<double>& matrix, std::vector<double>& right) {
  constexpr std::size_t kManyParameters = 32;  // below, starting threads takes longer than what they do
  const std::size_t n = at.size(), m = r.size();
  std::vector<std::vector<double>> columns(n);
  std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic) if (n >= kManyParameters)
  for (std::size_t i = 0; i < n; ++i) {
    constexpr double kStep = 1e-6;
    try {
      std::vector<double> moved = at;
      moved[i] += kStep;
      residuals(moved, columns[i]);
      for (std::size_t row = 0; row < m; ++row) columns[i][row] = (columns[i][row] - r[row]) / kStep;
    } catch (...) {
#pragma omp critical(signsplit_least_squares)
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
  matrix.assign(n * n, 0.0);
  right.assign(n, 0.0);
  for (std::size_t row = 0; row < m; ++row) {
    const double weight = 1.0 / std::sqrt(1.0 + (r[row] / scale) * (r[row] / scale));
    for (std::size_t i = 0; i < n; ++i) {
      right[i] -= weight * columns[i][row] * r[row];
      for (std::size_t j = 0; j <= i; ++j) matrix[i * n + j] += weight * columns[i][row] * columns[j][row];
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = i + 1; j < n; ++j) matrix[i * n + j] = matrix[j * n + i];
  }
}

}  // namespace

LeastSquaresFit minimise(const Residuals& residuals, std::vector<double> at, double scale, int iterations, double least_gain) {
  std::vector<double> r, trial_r, matrix, right;
  residuals(at, r);
  double cost = robust_cost(r, scale), damping = 1e-2;
  const std::size_t n = at.size();
  for (int step = 0; step < iterations && damping < 1e12; ++step) {
    normal_equations(residuals, at, r, scale, matrix, right);
    const double before = cost;
    while (damping < 1e12) {
      std::vector<double> damped = matrix, move = right;
      for (std::size_t i = 0; i < n; ++i) damped[i * n + i] += damping * (matrix[i * n + i] + 1e-9);
      std::vector<double> trial = at;
      bool better = false;
      if (solve(damped, move)) {
        // A factor of e² per step is enough: the parameters are logarithms.
        for (std::size_t i = 0; i < n; ++i) trial[i] += std::clamp(move[i], -2.0, 2.0);
        residuals(trial, trial_r);
        better = robust_cost(trial_r, scale) < cost;
      }
      damping *= better ? 0.2 : 5.0;
      if (!better) continue;
      at = trial;
      r.swap(trial_r);
      cost = robust_cost(r, scale);
      break;
    }
    if (before - cost < least_gain * before) break;
  }
  return {at, cost};
}

}  // namespace signsplit::sim
