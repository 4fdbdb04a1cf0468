// Synthetic layers: random numbers, and the fraction of units that is open.
#include "signsplit/synthetic.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "seed.hpp"

namespace {

using namespace signsplit;

/// The probability below x of a standard normal variable.
double normal_distribution(double x) { return 0.5 * std::erfc(-x * std::sqrt(0.5)); }

double dot(const Weights& weights, float (Weights::*at)(index_t, index_t) const noexcept, index_t j, const float* x) {
  double sum = 0.0;
  for (index_t k = 0; k < weights.d_model(); ++k)
    sum += static_cast<double>((weights.*at)(j, k)) * static_cast<double>(x[k]);
  return sum;
}

/// The fraction of open units over all tokens, evaluated in double.
double open_fraction(const Weights& weights, const std::vector<float>& x, index_t batch) {
  const Activation a = weights.activation();
  const bool both = a.kind == ActivationKind::drelu;
  index_t open = 0;
  for (index_t b = 0; b < batch; ++b) {
    const float* const token = x.data() + b * weights.d_model();
    for (index_t j = 0; j < weights.d_ff(); ++j) {
      const std::size_t unit = static_cast<std::size_t>(j);
      const auto biased = [unit](double sum, std::span<const float> bias) {
        return static_cast<float>(sum + (bias.empty() ? 0.0 : static_cast<double>(bias[unit])));
      };
      const float u = biased(dot(weights, &Weights::up_at, j, token), weights.up_bias());
      const float g = weights.gated() ? biased(dot(weights, &Weights::gate_at, j, token), weights.gate_bias()) : u;
      open += is_open(a, g) && (!both || u > 0.0f) ? 1 : 0;
    }
  }
  return static_cast<double>(open) / static_cast<double>(batch * weights.d_ff());
}

bool same_matrix(const std::byte* a, const std::byte* b, index_t bytes) {
  return std::memcmp(a, b, static_cast<std::size_t>(bytes)) == 0;
}

}  // namespace

TEST_CASE("the normal quantile inverts the normal distribution") {
  CHECK(normal_quantile(0.5) == 0.0);
  for (const double p : {1e-300, 1e-100, 1e-20, 1e-10, 1e-4, 0.01, 0.07, 0.074, 0.075, 0.076, 0.1, 0.25, 0.49}) {
    const double x = normal_quantile(p);
    // dp = φ(x)·dx, φ(x) ≤ (|x| + 1)·p in the lower tail; AS 241 is good to 1e-16 of x, erfc to a few ulp.
    const double bound = p * (std::abs(x) + 1.0) * std::abs(x) * 1e-15 + p * 1e-14;
    CHECK(std::abs(normal_distribution(x) - p) <= bound);
    if (p > 1e-4) CHECK(std::abs(normal_quantile(1.0 - p) + x) <= std::abs(x) * 1e-12);
  }
}

TEST_CASE("random values depend on seed and index only") {
  CHECK(random_bits(1, 2) == random_bits(1, 2));
  CHECK(random_bits(1, 2) != random_bits(2, 1));
  CHECK(random_bits(0, 0) != random_bits(0, 1));
  CHECK(random_normal(3, 5) == random_normal(3, 5));
}

TEST_CASE("normal values have the moments of a normal distribution") {
  constexpr index_t n = 200000;
  double sum = 0.0, squares = 0.0;
  for (index_t i = 0; i < n; ++i) {
    const double value = random_normal(test::seed(), static_cast<std::uint64_t>(i));
    sum += value;
    squares += value * value;
  }
  // Six standard deviations of the mean (1/√n) and of the mean square (√(2/n)).
  CHECK(std::abs(sum / n) < 6.0 / std::sqrt(n));
  CHECK(std::abs(squares / n - 1.0) < 6.0 * std::sqrt(2.0 / n));
}

TEST_CASE("the chosen fraction of units is open") {
  constexpr index_t batch = 16;
  const Activation activations[] = {
      {ActivationKind::relu}, {ActivationKind::relu2}, {ActivationKind::fatrelu, 0.3f}, {ActivationKind::drelu}};
  for (const Activation activation : activations) {
    for (const bool gated : {false, true}) {
      if (activation.kind == ActivationKind::drelu && !gated) continue;
      for (const double active : {0.05, 0.3, 1.0}) {
        const Problem problem{.d_model = 320, .d_ff = 512, .activation = activation, .gated = gated};
        const auto weights = synthetic_weights(problem, active, test::seed());
        REQUIRE(weights.ok());
        const std::vector<float> x = synthetic_input(batch, problem.d_model, test::seed() + 1);
        const double open = open_fraction(*weights, x, batch);
        CAPTURE(to_string(activation, gated));
        CAPTURE(active);
        CAPTURE(open);
        if (active == 1.0) {
          CHECK(open == 1.0);
          continue;
        }
        // Units of one token are independent, tokens of one unit share its weights: at worst 512 independent trials of
        // variance a(1−a). And ‖x‖²/D ≠ 1, by √(2/D)/2 = 4 % of the quantile: below 0.02 in probability. Six deviations.
        CHECK(std::abs(open - active) < 6.0 * std::sqrt(active * (1.0 - active) / 512.0) + 0.02);
      }
    }
  }
}

TEST_CASE("the same layer with any number of threads, another one with another seed") {
  const Problem problem{.d_model = 130, .d_ff = 77, .gated = true};
  const auto one = synthetic_weights(problem, 0.2, 7, 1), three = synthetic_weights(problem, 0.2, 7, 3);
  const auto other = synthetic_weights(problem, 0.2, 8, 1);
  REQUIRE((one.ok() && three.ok() && other.ok()));
  const index_t bytes = one->row_bytes() * one->d_ff();
  CHECK(same_matrix(one->up(), three->up(), bytes));
  CHECK(same_matrix(one->gate(), three->gate(), bytes));
  CHECK(same_matrix(one->down(), three->down(), bytes));
  CHECK_FALSE(same_matrix(one->up(), other->up(), bytes));
  CHECK_FALSE(same_matrix(one->up(), one->gate(), bytes));
}

TEST_CASE("weights have the variances of their fan-in") {
  const Problem problem{.d_model = 256, .d_ff = 1024, .dtype = DType::f32};
  const auto weights = synthetic_weights(problem, 0.5, test::seed());
  REQUIRE(weights.ok());
  double up = 0.0, down = 0.0;
  for (index_t j = 0; j < problem.d_ff; ++j) {
    for (index_t k = 0; k < problem.d_model; ++k) {
      up += std::pow(static_cast<double>(weights->up_at(j, k)), 2);
      down += std::pow(static_cast<double>(weights->down_at(j, k)), 2);
    }
  }
  const double spread = 6.0 * std::sqrt(2.0 / (256.0 * 1024.0));
  CHECK(std::abs(up / 1024.0 - 1.0) < spread);
  CHECK(std::abs(down / 256.0 - 1.0) < spread);
}

TEST_CASE("fractions out of range and impossible ones are refused") {
  const Problem problem{.d_model = 8, .d_ff = 8};
  for (const double bad : {0.0, -0.1, 1.1, std::nan("")}) CHECK_FALSE(synthetic_weights(problem, bad, 1).ok());
  Problem linear = problem;
  linear.activation = {ActivationKind::identity};
  CHECK_FALSE(synthetic_weights(linear, 0.5, 1).ok());
  CHECK(synthetic_weights(linear, 1.0, 1).ok());
  CHECK_FALSE(synthetic_weights({.d_model = 0, .d_ff = 8}, 0.5, 1).ok());
}
