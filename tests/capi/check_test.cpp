// signsplit_check must pass what is right, and fail on every kind of mistake, one at a time.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "c_layer.hpp"

using namespace signsplit;
using namespace signsplit::test;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
constexpr index_t kD = 70, kF = 90;

/// A layer, the exact result, bounds, and what the library's own kernels give.
struct Case {
  std::vector<float> exact, actual;
  std::vector<double> bound;
};

Case make_case() {
  Handle<signsplit_weights> weights;
  REQUIRE(create(random_layer({.d = kD, .f = kF, .activation = {}}), weights) == SIGNSPLIT_OK);
  const std::vector<float> x = synthetic_input(1, kD, seed());
  signsplit_reference* exact = nullptr;
  REQUIRE(signsplit_reference_create(weights.get(), SIGNSPLIT_COMPOSITE, 1, x.data(), x.size(), 0, &exact) == SIGNSPLIT_OK);
  const Handle<signsplit_reference> exact_owner(exact);
  signsplit_ffn* ffn = nullptr;
  REQUIRE(signsplit_ffn_create(weights.get(), 1, "row_fused", 0, nullptr, &ffn) == SIGNSPLIT_OK);
  const Handle<signsplit_ffn> ffn_owner(ffn);
  Case c;
  c.exact.assign(signsplit_reference_y(exact), signsplit_reference_y(exact) + kD);
  c.actual.resize(kD);
  c.bound.resize(kD);
  REQUIRE(signsplit_ffn_run(ffn, x.data(), x.size(), c.actual.data(), kD, nullptr, 0) == SIGNSPLIT_OK);
  REQUIRE(signsplit_error_bound(weights.get(), "row_fused", 1, x.data(), x.size(), c.bound.data(), kD) == SIGNSPLIT_OK);
  return c;
}

signsplit_check_result check(const std::vector<float>& actual, const std::vector<float>& exact, const double* bound) {
  signsplit_check_result result;
  REQUIRE(signsplit_check(actual.data(), exact.data(), bound, actual.size(), &result, sizeof result) == SIGNSPLIT_OK);
  return result;
}

}  // namespace

TEST_CASE("right outputs pass, with room to spare") {
  const Case c = make_case();
  const auto own = check(c.actual, c.exact, c.bound.data());
  CHECK(own.passed == 1);
  CHECK(own.wrong == 0);
  CHECK(own.first_wrong == kD);
  CHECK(own.worst_bound_fraction < 1.0);
  const auto same = check(c.exact, c.exact, nullptr);
  CHECK(same.passed == 1);
  CHECK(same.equal == kD);
  CHECK(same.max_ulp == 0);
}

TEST_CASE("each planted mistake is found where it is") {
  const Case c = make_case();
  const auto larger = [](float a, float b) { return std::abs(a) < std::abs(b); };
  const auto largest = static_cast<std::size_t>(std::max_element(c.exact.begin(), c.exact.end(), larger) - c.exact.begin());
  const auto found = [&](std::size_t at, float wrong) {
    CAPTURE(at);
    CAPTURE(wrong);
    std::vector<float> actual = c.actual;
    actual[at] = wrong;
    const auto result = check(actual, c.exact, c.bound.data());
    CHECK(result.passed == 0);
    CHECK(result.wrong == 1);
    CHECK(result.first_wrong == at);
    CHECK(result.worst == at);
    CHECK(result.worst_bound_fraction > 1.0);
  };
  for (const float wrong : {-c.actual[largest], 0.0f, c.actual[largest] * 1.01f}) found(largest, wrong);
  for (const std::size_t at : {std::size_t{0}, std::size_t{33}, std::size_t{kD - 1}}) {
    for (const float wrong : {kNan, kInfinity, -kInfinity, c.actual[at] + 1.0f}) found(at, wrong);
    found(at, c.exact[at] + static_cast<float>(2.0 * c.bound[at]) + 2.0f * std::abs(c.exact[at]) * 0x1p-23f);
  }
}

TEST_CASE("a kernel that adds in its own order is within the bound for any order, and a wrong one is not") {
  const SmallLayer layer = random_layer({.d = kD, .f = kF, .activation = {}});
  Handle<signsplit_weights> weights;
  REQUIRE(create(layer, weights) == SIGNSPLIT_OK);
  const std::vector<float> x = synthetic_input(1, kD, seed());
  std::vector<double> bound(kD, -1.0), wide(kD, -1.0);
  REQUIRE(signsplit_kernel_bound(weights.get(), "f32", 1, x.data(), kD, bound.data(), kD) == SIGNSPLIT_OK);
  REQUIRE(signsplit_kernel_bound(weights.get(), "bf16-activations", 1, x.data(), kD, wide.data(), kD) == SIGNSPLIT_OK);
  signsplit_reference* exact = nullptr;
  REQUIRE(signsplit_reference_create(weights.get(), SIGNSPLIT_COMPOSITE, 1, x.data(), kD, 0, &exact) == SIGNSPLIT_OK);
  const Handle<signsplit_reference> exact_owner(exact);
  const std::vector<float> expected(signsplit_reference_y(exact), signsplit_reference_y(exact) + kD);

  const auto run_backwards = [&](index_t units) {  // k and j descending, products rounded by themselves
    std::vector<float> y(kD);
    for (index_t j = units - 1; j >= 0; --j) {
      float z = 0.0f;
      for (index_t k = kD - 1; k >= 0; --k) z += layer.up_at(j, k) * x[static_cast<std::size_t>(k)];
      for (index_t i = 0; i < kD && z > 0.0f; ++i) y[static_cast<std::size_t>(i)] += z * layer.down_at(j, i);
    }
    return y;
  };
  CHECK(check(run_backwards(kF), expected, bound.data()).passed == 1);
  CHECK(check(run_backwards(kF / 2), expected, bound.data()).passed == 0);
  for (std::size_t i = 0; i < bound.size(); ++i) {
    CHECK(bound[i] > 0.0);
    CHECK(wide[i] > bound[i]);
  }
  CHECK(signsplit_kernel_bound(weights.get(), "f16", 1, x.data(), kD, bound.data(), kD) == SIGNSPLIT_INVALID_ARGUMENT);
  CHECK(signsplit_kernel_bound(weights.get(), "f32", 1, x.data(), kD, bound.data(), 1) == SIGNSPLIT_INVALID_ARGUMENT);
  CHECK(signsplit_kernel_bound(weights.get(), "f32", 2, x.data(), kD, bound.data(), kD) == SIGNSPLIT_INVALID_ARGUMENT);
}

TEST_CASE("a bound is met up to its last bit, and half an ulp of the rounded reference comes on top") {
  const std::vector<float> exact{1.0f, 8.0f, 0.0f};
  const std::vector<double> bound{0x1p-10, 0x1p-10, 0x1p-10};
  CHECK(check({1.0f + 0x1p-10f, 8.0f - 0x1p-10f, -0x1p-10f}, exact, bound.data()).passed == 1);
  CHECK(check({1.0f + 0x1p-10f + 0x1p-23f, 8.0f, 0.0f}, exact, bound.data()).wrong == 1);
  CHECK(check({1.0f, 8.0f + 0x1p-10f + 0x1p-20f, 0.0f}, exact, bound.data()).wrong == 1);
  CHECK(check({1.0f, 8.0f, 0x1.000002p-10f}, exact, bound.data()).wrong == 1);
  const std::vector<double> none{0.0, 0.0, 0.0};
  CHECK(check(exact, exact, none.data()).passed == 1);
  CHECK(check({std::nextafter(1.0f, 2.0f), 8.0f, 0.0f}, exact, none.data()).wrong == 1);
}

TEST_CASE("without bounds only equal elements pass") {
  const auto result = check({1.0f, std::nextafter(2.0f, 3.0f), -0.0f, kNan}, {1.0f, 2.0f, 0.0f, kNan}, nullptr);
  CHECK(result.passed == 0);
  CHECK(result.wrong == 1);
  CHECK(result.first_wrong == 1);
  CHECK(result.max_ulp == 1);
  CHECK(result.equal == 3);
}

TEST_CASE("NaN and infinity in the exact result") {
  const double open[] = {static_cast<double>(kInfinity)}, tight[] = {1.0};
  CHECK(check({kNan}, {kNan}, open).passed == 1);
  CHECK(check({1.0f}, {kNan}, open).passed == 0);
  CHECK(check({kInfinity}, {kNan}, open).passed == 0);
  CHECK(check({kNan}, {kInfinity}, open).passed == 1);
  CHECK(check({kInfinity}, {kInfinity}, tight).passed == 1);
  CHECK(check({-kInfinity}, {kInfinity}, tight).passed == 0);
  CHECK(check({3e38f}, {kInfinity}, tight).passed == 0);
}

TEST_CASE("checks that mean nothing are refused") {
  const float one[] = {1.0f};
  const double negative[] = {-1.0}, nan[] = {std::nan("")};
  signsplit_check_result result;
  CHECK(signsplit_check(one, one, nullptr, 0, &result, sizeof result) == SIGNSPLIT_INVALID_ARGUMENT);
  CHECK(signsplit_check(one, one, negative, 1, &result, sizeof result) == SIGNSPLIT_INVALID_ARGUMENT);
  CHECK(signsplit_check(one, one, nan, 1, &result, sizeof result) == SIGNSPLIT_INVALID_ARGUMENT);
  CHECK(signsplit_check(one, nullptr, nullptr, 1, &result, sizeof result) == SIGNSPLIT_INVALID_ARGUMENT);
}
