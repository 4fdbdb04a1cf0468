// analyse_overflow() against sums that are counted out one by one.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "seed.hpp"
#include "signsplit/overflow.hpp"
#include "small_layer.hpp"

using namespace signsplit;
using signsplit::test::make_layer;
using signsplit::test::SmallLayer;

namespace {

OverflowReport analyse(const Weights& weights, const std::vector<float>& x, double bound = 0.0, int threads = 0) {
  const auto report = analyse_overflow(weights, x, static_cast<index_t>(x.size()) / weights.d_model(), bound, threads);
  REQUIRE_MESSAGE(report.ok(), report.message());
  return *report;
}

/// Whole numbers whose largest magnitude per row is 127: quantizing them changes nothing.
SmallLayer integer_layer(std::mt19937_64& random, index_t d, index_t f) {
  SmallLayer layer = make_layer({d, f, {}}, [&] { return static_cast<float>(static_cast<int>(random() % 255) - 127); });
  for (index_t j = 0; j < f; ++j) layer.up[static_cast<std::size_t>(j * d + j % d)] = 127.0f;
  return layer;
}

std::vector<float> integer_input(std::mt19937_64& random, index_t tokens, index_t d) {
  std::vector<float> x(static_cast<std::size_t>(tokens * d));
  for (float& value : x) value = static_cast<float>(static_cast<int>(random() % 255) - 127);
  for (index_t t = 0; t < tokens; ++t) x[static_cast<std::size_t>(t * d)] = -127.0f;
  return x;
}

struct Counted {
  double p = 0, n = 0, z = 0, worst = 0;
  index_t tile_worst = 0, tile_observed = 0;  // for int16
};

/// Every window of every row and token, summed up afresh.
Counted count(const SmallLayer& layer, const std::vector<float>& x) {
  Counted counted;
  const index_t tokens = static_cast<index_t>(x.size()) / layer.d;
  counted.tile_worst = counted.tile_observed = layer.d;
  for (index_t j = 0; j < layer.f; ++j) {
    for (index_t t = 0; t < tokens; ++t) {
      double p_all = 0, n_all = 0, z = 0, worst = 0;
      for (index_t begin = 0; begin < layer.d; ++begin) {
        double p = 0, n = 0, w = 0;
        for (index_t k = begin; k < layer.d; ++k) {
          const double weight = layer.up_at(j, k), term = weight * x[static_cast<std::size_t>(t * layer.d + k)];
          p += std::max(term, 0.0);
          n += std::max(-term, 0.0);
          w += std::abs(weight) * 127.0;
          if (begin == 0) z = std::max(z, std::abs(p - n));
          if (w > 32767) counted.tile_worst = std::min(counted.tile_worst, k - begin);
          if (std::max(p, n) > 32767) counted.tile_observed = std::min(counted.tile_observed, k - begin);
        }
        if (begin == 0) p_all = p, n_all = n, worst = w;
      }
      counted.p = std::max(counted.p, p_all);
      counted.n = std::max(counted.n, n_all);
      counted.z = std::max(counted.z, z);
      counted.worst = std::max(counted.worst, worst);
    }
  }
  return counted;
}

const AccumulatorFit& fit_of(const OverflowView& view, std::string_view name) {
  const auto found = std::find_if(view.accumulators.begin(), view.accumulators.end(),
                                  [&](const AccumulatorFit& fit) { return fit.name == name; });
  REQUIRE(found != view.accumulators.end());
  return *found;
}

}  // namespace

TEST_CASE("bits of two's complement") {
  const std::pair<double, int> cases[] = {{0, 1},      {1, 2},      {2, 3},        {127, 8},           {128, 9},
                                          {32767, 16}, {32768, 17}, {8388607, 24}, {2147483648.0, 33}};
  for (const std::pair<double, int>& expected : cases) CHECK(accumulator_bits(expected.first) == expected.second);
}

TEST_CASE("two products by hand") {
  SmallLayer layer{.d = 2, .f = 1};
  layer.up = {1.0f, -2.0f};
  layer.down = {1.0f, 1.0f};
  const OverflowReport report = analyse(layer.pack(), {3.0f, 1.0f});
  CHECK(report.real.x_bound == 3.0);
  CHECK(report.real.p.worst == 9.0);
  CHECK(*report.real.p.observed == 3.0);
  CHECK(*report.real.n.observed == 2.0);
  CHECK(*report.real.z.observed == 3.0);  // the partial sum after the first product; z itself is 1
  // w -> 64 (63.5 to even), -127; x -> 127, 42
  CHECK(report.w8a8.p.worst == 127.0 * (64 + 127));
  CHECK(*report.w8a8.p.observed == 64.0 * 127);
  CHECK(*report.w8a8.n.observed == 127.0 * 42);
  CHECK(report.cancelled_bits_median == 2.25);  // log2(5 / 1) = 2.32
  CHECK(report.sign_in_doubt_fp16 == 0.0);
}

TEST_CASE("a window of exactly the limit fits") {
  SmallLayer layer{.d = 4, .f = 1};
  layer.up = {127.0f, 126.0f, 6.0f, 1.0f};
  layer.down = {1.0f, 1.0f, 1.0f, 1.0f};
  const OverflowView view = analyse(layer.pack(), {127.0f, 127.0f, 106.0f, 1.0f}).w8a8;  // 16129 + 16002 + 636 = 32767, + 1
  CHECK(*view.p.observed == 32768.0);
  CHECK(fit_of(view, "int16").k_tile_observed == 3);
  CHECK_FALSE(fit_of(view, "int16").fits_streams);
}

TEST_CASE("random whole numbers against every window counted out") {
  std::mt19937_64 random(signsplit::test::seed());
  for (int round = 0; round < 4; ++round) {
    const index_t d = 5 + static_cast<index_t>(random() % 60), f = 1 + static_cast<index_t>(random() % 7);
    const SmallLayer layer = integer_layer(random, d, f);
    const std::vector<float> x = integer_input(random, 3, d);
    const Counted counted = count(layer, x);
    for (const int threads : {1, 3}) {
      const OverflowView view = analyse(layer.pack(), x, 0.0, threads).w8a8;
      CAPTURE(d);
      CHECK(view.p.worst == counted.worst);
      CHECK(*view.p.observed == counted.p);
      CHECK(*view.n.observed == counted.n);
      CHECK(*view.z.observed == counted.z);
      const AccumulatorFit& int16 = fit_of(view, "int16");
      CHECK(int16.k_tile_worst == counted.tile_worst);
      CHECK(int16.k_tile_observed == counted.tile_observed);
      CHECK(int16.fits_worst == (counted.worst <= 32767));
      CHECK(int16.fits_streams == (std::max(counted.p, counted.n) <= 32767));
      CHECK(int16.fits_z == (counted.z <= 32767));
      CHECK(fit_of(view, "int32").k_tile_worst == d);
    }
  }
}

TEST_CASE("a sign that is a rounding error away from zero is in doubt, exactly at its bound") {
  SmallLayer layer{.d = 2, .f = 1};
  layer.up = {1.0f, -1.0f};
  layer.down = {1.0f, 1.0f};
  // P = 1 + e, N = 1: z / (P - N) = e / (2 + e) against 2^-11
  CHECK(analyse(layer.pack(), {1.0f + 0x1p-11f, 1.0f}).sign_in_doubt_fp16 == 1.0);
  CHECK(analyse(layer.pack(), {1.0f + 0x1p-9f, 1.0f}).sign_in_doubt_fp16 == 0.0);
  CHECK(analyse(layer.pack(), {1.0f + 0x1p-9f, 1.0f}).sign_in_doubt_bf16 == 1.0);
}

TEST_CASE("the gate decides in a gated layer; without inputs a bound is enough") {
  SmallLayer layer{.d = 1, .f = 1};
  layer.up = {5.0f};
  layer.gate = {-2.0f};
  layer.down = {1.0f};
  const OverflowReport report = analyse(layer.pack(), {}, 4.0);
  CHECK(report.real.n.worst == 8.0);
  CHECK_FALSE(report.real.n.observed.has_value());
  CHECK(fit_of(report.real, "fp16").fits_streams);
  CHECK(*analyse(layer.pack(), {3.0f}).real.n.observed == 6.0);
}

TEST_CASE("what has no size is refused") {
  SmallLayer layer{.d = 2, .f = 1};
  layer.up = {1.0f, 1.0f};
  layer.down = {1.0f, 1.0f};
  const Weights weights = layer.pack();
  const auto refused = [&](const std::vector<float>& x, index_t tokens, double bound) {
    return !analyse_overflow(weights, x, tokens, bound).ok();
  };
  CHECK(refused({}, 0, 0.0));
  CHECK(refused({1.0f}, 1, 0.0));
  CHECK(refused({1.0f, 1.0f}, -1, 1.0));
  CHECK(refused({1.0f, 1.0f}, 1, -1.0));
  CHECK(refused({1.0f, std::numeric_limits<float>::infinity()}, 1, 0.0));
  layer.up[1] = std::numeric_limits<float>::quiet_NaN();
  CHECK_FALSE(analyse_overflow(layer.pack(), std::vector<float>{1.0f, 1.0f}, 1).ok());
}
