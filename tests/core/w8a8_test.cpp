// w8a8: quantized tokens, and the reference against integers and against the f32 layer.
#include "signsplit/w8a8.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>

#include "seed.hpp"
#include "signsplit/synthetic.hpp"

namespace {

using namespace signsplit;

Weights layer(const Problem& problem) {
  auto made = synthetic_weights(problem, 0.5, test::seed());
  REQUIRE_MESSAGE(made.ok(), made.message());
  return std::move(made).value();
}

ReferenceResult run(const Weights& weights, std::span<const float> x, index_t batch, index_t parts) {
  Problem problem = weights.problem(batch);
  problem.arithmetic = Arithmetic::w8a8;
  Plan plan = default_plan(problem, Strategy::unfused);
  plan.parts = parts;
  auto result = w8a8_reference(plan, weights, x, batch);
  REQUIRE_MESSAGE(result.ok(), result.message());
  return std::move(result).value();
}

}  // namespace

TEST_CASE("a quantized token: half a step from every value, ties to even, never beyond 127") {
  std::mt19937_64 random(test::seed());
  std::normal_distribution<float> normal;
  for (const float size : {1.0f, 1e-30f, 1e30f}) {
    std::vector<float> values(200);
    for (float& v : values) v = size * normal(random);
    std::vector<std::int8_t> q(values.size());
    const float scale = quantize_token(values, q);
    int largest = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      REQUIRE(std::abs(static_cast<double>(values[i]) - static_cast<double>(scale) * q[i]) <= 0.50001 * static_cast<double>(scale));
      largest = std::max(largest, std::abs(static_cast<int>(q[i])));
    }
    CHECK(largest == 127);
  }
  std::vector<std::int8_t> q(4, 9);
  const std::vector<float> ties{127.0f, 0.5f, 1.5f, -2.5f};
  CHECK(quantize_token(ties, q) == 1.0f);
  CHECK(q == std::vector<std::int8_t>{127, 0, 2, -2});
  const std::vector<float> tiny{0x1p-149f, 0.0f, 0.0f, 0.0f}, subnormal{0x1.8p-142f, -0x1.8p-142f, 0.0f, 0.0f};
  CHECK(quantize_token(tiny, q) == 0.0f);
  CHECK(q == std::vector<std::int8_t>(4, 0));
  CHECK(quantize_token(subnormal, q) == 0x1p-148f);  // 192 / 127 steps of 2^-149, rounded to 2
  CHECK(q == std::vector<std::int8_t>{96, -96, 0, 0});
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    const std::vector<float> values{1.0f, bad, 2.0f, 3.0f};
    CHECK(std::isnan(quantize_token(values, q)));
    CHECK(q == std::vector<std::int8_t>(4, 0));
  }
}

TEST_CASE("scales of one: plain integer arithmetic, however many parts and groups") {
  std::mt19937_64 random(test::seed());
  const index_t n = 192;  // D = F, W1 the identity: h = relu(x), whose largest value is 127
  const auto integer = [&] { return static_cast<int>(random() % 255) - 127; };
  std::vector<std::int8_t> up(static_cast<std::size_t>(n * n), 0), down(up.size());
  for (index_t j = 0; j < n; ++j) up[static_cast<std::size_t>(j * n + j)] = 1;
  for (std::int8_t& q : down) q = static_cast<std::int8_t>(integer());
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& v : x) v = static_cast<float>(integer());
  x[5] = 127.0f;
  for (const index_t group : {0, 64, 128}) {
    LayerTensors tensors{n, n, DType::int8, {}, std::as_bytes(std::span(up)), std::as_bytes(std::span(down)), {}, {}, {}, {}};
    const std::vector<float> ones(static_cast<std::size_t>(n * (group == 0 ? 1 : ceil_div(n, group))), 1.0f);
    tensors.group = group;
    tensors.up_scale = tensors.down_scale = ones;
    const auto weights = Weights::pack(tensors);
    REQUIRE_MESSAGE(weights.ok(), weights.message());
    for (const index_t parts : {1, 2, 5, 192}) {
      const ReferenceResult result = run(*weights, x, 1, parts);
      for (index_t d = 0; d < n; ++d) {
        long expected = 0;
        for (index_t j = 0; j < n; ++j) expected += std::max(0L, static_cast<long>(x[static_cast<std::size_t>(j)])) * down[static_cast<std::size_t>(d * n + j)];
        REQUIRE(result.y[static_cast<std::size_t>(d)] == static_cast<float>(expected));
      }
    }
  }
}

TEST_CASE("pre-activations are half a step of x, summed over the row, from those of the f32 layer") {
  for (const bool gated : {false, true}) {
    for (const index_t group : {0, 64}) {
      const Weights weights = layer({.d_model = 200, .d_ff = 150, .dtype = DType::int8, .activation = {}, .gated = gated, .group = group});
      const std::vector<float> x = synthetic_input(2, 200, 3);
      const ReferenceResult result = run(weights, x, 2, 3);
      const auto exact = reference(weights, x, 2, ReferenceMode::staged);
      REQUIRE(exact.ok());
      for (index_t b = 0; b < 2; ++b) {
        std::vector<std::int8_t> q(200);
        const double scale = static_cast<double>(quantize_token(std::span(x).subspan(static_cast<std::size_t>(b * 200), 200), q));
        for (index_t j = 0; j < 150; ++j) {
          double mass = 0.0;
          for (index_t k = 0; k < 200; ++k) mass += std::abs(static_cast<double>(gated ? weights.gate_at(j, k) : weights.up_at(j, k)));
          const auto at = static_cast<std::size_t>(b * 150 + j);
          // |x − scale·q| ≤ scale/2 (1 + 2^-20), and a handful of f32 roundings of sums below 127·scale·mass + |bias|.
          REQUIRE(std::abs(static_cast<double>(result.z[at]) - static_cast<double>(exact->z[at])) <= 0.501 * scale * mass);
        }
      }
    }
  }
}

TEST_CASE("a token that is not finite is NaN all over, and the others do not notice") {
  const Weights weights = layer({.d_model = 100, .d_ff = 70, .dtype = DType::int8, .activation = {}});
  std::vector<float> x = synthetic_input(3, 100, 3);
  const ReferenceResult clean = run(weights, x, 3, 4);
  x[100 + 7] = std::numeric_limits<float>::infinity();
  const ReferenceResult result = run(weights, x, 3, 4);
  for (std::size_t i = 0; i < 300; ++i) {
    if (i / 100 == 1) {
      REQUIRE(std::bit_cast<std::uint32_t>(result.y[i]) == 0x7fc00000u);
    } else {
      REQUIRE(result.y[i] == clean.y[i]);
    }
  }
}

TEST_CASE("w8a8 refuses what it is not defined for") {
  const Weights weights = layer({.d_model = 100, .d_ff = 70, .dtype = DType::int8, .activation = {}});
  const std::vector<float> x = synthetic_input(1, 100, 3);
  CHECK_FALSE(w8a8_reference(default_plan(weights.problem(), Strategy::row_fused), weights, x, 1).ok());
  CHECK_FALSE(w8a8_reference(default_plan(weights.problem(), Strategy::unfused), weights, std::span(x).first(9), 1).ok());
  const Weights wide = layer({.d_model = 100, .d_ff = 70, .dtype = DType::f16, .activation = {}});
  CHECK_FALSE(w8a8_reference(default_plan(wide.problem(), Strategy::unfused), wide, x, 1).ok());
}
