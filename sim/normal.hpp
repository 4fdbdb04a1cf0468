// Probabilities: the normal distribution, as far as the activity model needs it, and batches.
#pragma once

#include "signsplit/portability.hpp"

namespace signsplit::sim {

/// The probability that something true of a token with probability p is true of at least one of a batch of independent ones.
[[nodiscard]] double any_of_batch(double p, index_t batch) noexcept;

/// P(X ≤ x) of a standard normal X.
[[nodiscard]] double normal_cdf(double x) noexcept;

/// P(X ≤ h and Y ≤ k) of standard normals with correlation 0 ≤ rho < 1.
[[nodiscard]] double bivariate_normal_cdf(double h, double k, double rho) noexcept;

}  // namespace signsplit::sim
