// measure_activity() on layers whose answer is known, and on the shipped one.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>

#include "seed.hpp"
#include "signsplit/activity.hpp"
#include "signsplit/npy.hpp"
#include "signsplit/reference.hpp"
#include "small_layer.hpp"

using namespace signsplit;
using signsplit::test::make_layer;
using signsplit::test::SmallLayer;

namespace {

ActivityReport measure(const Weights& weights, const std::vector<float>& x, const ActivityOptions& options = {}) {
  const auto report = measure_activity(weights, x, static_cast<index_t>(x.size()) / weights.d_model(), options);
  REQUIRE_MESSAGE(report.ok(), report.message());
  return *report;
}

float small_integer(std::mt19937_64& random, int reach) {
  return static_cast<float>(static_cast<int>(random() % static_cast<unsigned>(2 * reach + 1)) - reach);
}

}  // namespace

TEST_CASE("open units are those of the exact reference; tiles are counted as pushed") {
  std::mt19937_64 random(signsplit::test::seed());
  for (const bool gated : {false, true}) {
    const SmallLayer layer = make_layer({200, 33, {}, gated, true}, [&] { return small_integer(random, 8); });
    std::vector<float> x(5 * 200);
    for (float& value : x) value = small_integer(random, 8);
    const Weights weights = layer.pack();
    const auto exact = reference(weights, x, 5, ReferenceMode::staged);
    REQUIRE(exact.ok());
    double active = 0, wrong = 0, pushed = 0;
    for (index_t t = 0; t < 5; ++t) {
      for (index_t j = 0; j < layer.f; ++j) {
        active += exact->active[static_cast<std::size_t>(t * layer.f + j)];
        float tile[2] = {(gated ? layer.gate_bias : layer.up_bias)[static_cast<std::size_t>(j)], 0.0f};
        for (index_t k = 0; k < 200; ++k) {  // 200 elements are four blocks of 64: tiles of 128 and 72
          tile[k >= 128] += (gated ? layer.gate_at(j, k) : layer.up_at(j, k)) * x[static_cast<std::size_t>(t * 200 + k)];
        }
        pushed += (tile[0] > 0) + (tile[1] > 0);
        const bool open = tile[0] + tile[1] > 0;
        wrong += open ? tile[0] < 0 || tile[1] < 0 : tile[0] > 0 || tile[1] > 0;
      }
    }
    const double pairs = 5.0 * static_cast<double>(layer.f);
    const ActivityReport report = measure(weights, x, {{8}, {64}, {1, 2}, 2});
    CHECK(report.active == doctest::Approx(active / pairs).epsilon(1e-14));
    CHECK(report.crossings[0].wrong == 0.0);
    CHECK(report.crossings[0].pushed == report.active);
    CHECK(report.crossings[1].wrong == doctest::Approx(wrong / pairs).epsilon(1e-14));
    CHECK(report.crossings[1].pushed == doctest::Approx(pushed / pairs).epsilon(1e-14));
  }
}

TEST_CASE("a plane that holds the weights proves every sign; a narrower one proves only true ones") {
  std::mt19937_64 random(signsplit::test::seed() + 1);
  SmallLayer layer = make_layer({128, 40, {}}, [&] { return small_integer(random, 127); });
  for (std::size_t i = 0; i < layer.up.size(); i += 64) layer.up[i] = 127.0f;  // every group's scale is 1
  std::vector<float> x(7 * 128);
  for (float& value : x) value = small_integer(random, 100) + 0.5f;
  const ActivityReport report = measure(layer.pack(), x, {{8, 7, 4, 2}, {64, 128}, {2}, 0});
  REQUIRE(report.planes.size() == 8);
  for (const PlaneRate& plane : report.planes) {
    CAPTURE(plane.bits);
    CHECK(plane.proven <= 1.0 - report.active);
    CHECK(plane.proven_open <= report.active);
    CHECK(plane.executed <= 1.0 - report.active);
    CHECK(plane.proven + plane.false_survivors == doctest::Approx(1.0 - report.active).epsilon(1e-14));
    if (plane.bits == 8) {
      CHECK(plane.proven_of_dead == doctest::Approx(1.0).epsilon(1e-14));
      CHECK(plane.proven_open == doctest::Approx(report.active).epsilon(1e-14));
      CHECK(plane.executed > 0.99 * plane.proven);  // scales of 1 are stored exactly: only x and roundings are left
    } else {
      CHECK(plane.proven < report.planes[0].proven);
    }
  }
}

TEST_CASE("distribution of z by hand") {
  SmallLayer layer{.d = 1, .f = 4};
  layer.up = {-3.0f, -1.0f, 1.0f, 3.0f};
  layer.down = {1.0f, 1.0f, 1.0f, 1.0f};
  const ActivityReport report = measure(layer.pack(), {1.0f, 1.0f});
  CHECK(report.z_mean == 0.0);
  CHECK(report.z_sigma == std::sqrt(5.0));
  CHECK(report.active == 0.5);
  CHECK(report.never_active == 2);
  CHECK(report.always_active == 2);
  CHECK(report.z_quantiles.front() == doctest::Approx(-3 / std::sqrt(5.0)));
  double total = 0;
  for (const double fraction : report.z_histogram) total += fraction;
  CHECK(total == 1.0);
  const auto bin = [&](double ratio) {
    return report.z_histogram[static_cast<std::size_t>((ratio - ActivityReport::kFirstBin) / ActivityReport::kBinWidth)];
  };
  CHECK(bin(-3 / std::sqrt(5.0)) == 0.25);
  CHECK(bin(1 / std::sqrt(5.0)) == 0.25);
  layer.activation = {ActivationKind::fatrelu, 2.0f};
  CHECK(measure(layer.pack(), {1.0f}).active == 0.25);
  CHECK(measure(layer.pack(), {1.0f}).z_mean == -2.0);
}

TEST_CASE("the shipped layer's figures") {
  const std::string data = SIGNSPLIT_DATA_DIRECTORY;
  const auto weights = load_weights(data + "/layer0-relu.safetensors");
  const auto x = read_matrix(data + "/layer0-x.npy");
  REQUIRE(weights.ok());
  REQUIRE(x.ok());
  const ActivityReport report = measure(*weights, x->values, {{8, 4}, {64}, {2, 8}, 0});
  const auto tenths = [](double fraction) { return std::lround(1000 * fraction); };  // of a percent
  CHECK(tenths(report.active) == 100);
  CHECK(tenths(report.planes[0].proven) == 884);
  CHECK(tenths(report.planes[1].proven) == 312);
  CHECK(report.planes[0].executed <= 1.0 - report.active);
  CHECK(report.planes[0].executed > report.planes[0].proven - 0.01);
  CHECK(tenths(report.crossings[0].wrong) == 254);
  CHECK(tenths(report.crossings[1].wrong) == 938);
}

TEST_CASE("what has no activity is refused") {
  SmallLayer layer{.d = 1, .f = 1};
  layer.up = {1.0f};
  layer.down = {1.0f};
  const std::vector<float> x = {1.0f};
  const auto refused = [&](const ActivityOptions& options) { return !measure_activity(layer.pack(), x, 1, options).ok(); };
  CHECK_FALSE(refused({}));
  CHECK(refused({{1}, {64}, {2}, 0}));
  CHECK(refused({{9}, {64}, {2}, 0}));
  CHECK(refused({{8}, {65}, {2}, 0}));
  CHECK(refused({{8}, {0}, {2}, 0}));
  CHECK(refused({{8}, {64}, {0}, 0}));
  CHECK_FALSE(measure_activity(layer.pack(), x, 2).ok());
  CHECK_FALSE(measure_activity(layer.pack(), {}, 0).ok());
  layer.activation = {ActivationKind::identity};
  CHECK(refused({}));
}
