// The normal distribution, as far as the activity model needs it.
#pragma once

namespace signsplit::sim {

/// P(X ≤ x) of a standard normal X.
[[nodiscard]] double normal_cdf(double x) noexcept;

/// P(X ≤ h and Y ≤ k) of standard normals with correlation 0 ≤ rho < 1.
[[nodiscard]] double bivariate_normal_cdf(double h, double k, double rho) noexcept;

}  // namespace signsplit::sim
