// Fits: what was put in comes out, what was left out is predicted, bad points are refused.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>

#include "../seed.hpp"
#include "signsplit/sim/gpu_fit.hpp"

using namespace signsplit;
using namespace signsplit::sim;

namespace {

/// Within a relative distance: doctest's Approx adds an absolute one, of a whole second.
bool within(double value, double expected, double relative) { return std::abs(value - expected) <= relative * std::abs(expected); }

std::vector<StepPoint> points_of(const StepModel& model, double scatter) {
  std::mt19937_64 random(test::seed());
  std::uniform_real_distribution<double> noise(-scatter, scatter);
  std::vector<StepPoint> points;
  for (double bytes = 65536; bytes < 1e9; bytes *= 1.06) points.push_back({bytes, step_time_s(model, bytes) * (1.0 + noise(random))});
  return points;
}

}  // namespace

TEST_CASE("the time of a step, worked by hand") {
  const StepModel model{1e-6, 2e-6, 1e6, 2.0, {{4e12, 1e9, 50.0}}, 1e12};
  CHECK(within(step_time_s(model, 1e6), 1e-6 + 1e-6 + 0.25e-6, 1e-9));  // half filled, all from the cache
  CHECK(within(step_time_s(model, 1e12), 1.0, 1e-3));                   // from memory
  CHECK(step_time_s(model, 1e300) > 0.0);
  StepModel two = model;
  two.caches.insert(two.caches.begin(), CacheModel{8e12, 1e5, 50.0});
  CHECK(within(step_time_s(two, 1e6), step_time_s(model, 1e6), 0.01));  // ten times its size: it hardly hits
  CHECK(within(step_time_s(two, 1e4), 1e-6 + 2e-6 * 1e-4 / (1 + 1e-4) + 1e4 / 8e12, 1e-9));
}

TEST_CASE("a fit recovers a model from half of its points, and predicts the other half") {
  const StepModel truth{1.2e-6, 3e-6, 2e6, 2.5, {{4e12, 4e7, 8.0}}, 1.5e12};
  const std::vector<StepPoint> all = points_of(truth, 0.01);
  std::vector<StepPoint> fitted;
  std::vector<double> predicted, measured;
  for (std::size_t i = 0; i < all.size(); i += 2) fitted.push_back(all[i]);
  const auto model = fit_steps(fitted, 1);
  REQUIRE(model.ok());
  for (std::size_t i = 1; i < all.size(); i += 2) predicted.push_back(step_time_s(*model, all[i].bytes)), measured.push_back(all[i].seconds);
  const ErrorSummary errors = summarise_errors(predicted, measured);
  CHECK(errors.points == measured.size());
  CHECK(errors.p95 < 0.03);  // one per cent is the scatter of the points, on both sides
  CHECK(model->memory_Bps == doctest::Approx(truth.memory_Bps).epsilon(0.03));
  CHECK(model->caches[0].capacity_bytes == doctest::Approx(truth.caches[0].capacity_bytes).epsilon(0.05));
  CHECK(fit_steps(fitted, 1)->empty_s == model->empty_s);  // the same again
}

TEST_CASE("outliers do not bend the fit") {
  const StepModel truth{1.2e-6, 1e-7, 2e6, 2.0, {{4e12, 4e7, 8.0}}, 1.5e12};
  std::vector<StepPoint> points = points_of(truth, 0.0);
  for (std::size_t i = 3; i < points.size(); i += 10) points[i].seconds *= 3.0;  // a tenth of them: plain squares give 11 %
  const auto model = fit_steps(points, 1);
  REQUIRE(model.ok());
  CHECK(within(step_time_s(*model, 1e5), step_time_s(truth, 1e5), 0.02));
  CHECK(within(step_time_s(*model, 5e8), step_time_s(truth, 5e8), 0.02));
}

TEST_CASE("saturation of a published curve: Cascade Lake 6248, reads by cores") {
  // GB/s of 1 to 10 cores of one NUMA domain, two threads each, from memory: Kerncraft's machine file CascadelakeSP_Gold-6248_SNC,
  // kernel load. The model has no descent after the top: 1 % of it is what the last points show.
  const double measured[] = {14.62, 28.71, 41.52, 50.35, 56.02, 58.58, 59.30, 59.17, 58.96, 58.71};
  std::vector<SaturationPoint> odd;
  for (int cores = 1; cores <= 10; cores += 2) odd.push_back({static_cast<double>(cores), measured[cores - 1] * 1e9});
  const auto model = fit_saturation(odd);
  REQUIRE(model.ok());
  for (int cores = 2; cores <= 10; cores += 2) {
    CAPTURE(cores);
    CHECK(saturated_Bps(*model, cores) == doctest::Approx(measured[cores - 1] * 1e9).epsilon(0.04));
  }
  CHECK(1.0 / model->latency_s == doctest::Approx(14.62e9).epsilon(0.03));
}

TEST_CASE("footprints: a cache, then memory") {
  const FootprintModel truth{{5e12, 4e7, 6.0}, 1.2e12};
  std::vector<FootprintPoint> points;
  for (double bytes = 1e6; bytes < 2e9; bytes *= 1.2) points.push_back({bytes, footprint_Bps(truth, bytes)});
  const auto model = fit_footprint(points);
  REQUIRE(model.ok());
  for (const FootprintPoint& point : points) CHECK(footprint_Bps(*model, point.bytes) == doctest::Approx(point.Bps).epsilon(0.01));
}

TEST_CASE("fits refuse what they cannot fit") {
  const std::vector<StepPoint> few(7, {1e6, 1e-6});
  CHECK(fit_steps(few, 1).message().find("needs as many points") != std::string::npos);
  std::vector<StepPoint> bad(20, {1e6, 1e-6});
  CHECK(fit_steps(bad, 3).message().find("caches") != std::string::npos);
  bad[3].seconds = std::numeric_limits<double>::quiet_NaN();
  CHECK_FALSE(fit_steps(bad, 1).ok());
  bad[3].seconds = 0.0;
  CHECK_FALSE(fit_steps(bad, 1).ok());
  CHECK_FALSE(fit_saturation({}).ok());
  CHECK_FALSE(fit_footprint({}).ok());
}

TEST_CASE("error summaries") {
  const std::vector<double> measured(20, 1.0);
  std::vector<double> predicted = measured;
  predicted[7] = 1.5;
  predicted[11] = 0.9;
  const ErrorSummary errors = summarise_errors(predicted, measured);
  CHECK(errors.median == 0.0);
  CHECK(errors.worst == 0.5);
  CHECK(errors.worst_index == 7);
  CHECK(errors.p95 == 0.5);
  predicted[2] = std::numeric_limits<double>::quiet_NaN();
  CHECK_FALSE(summarise_errors(predicted, measured).worst <= 1.0);
  CHECK(summarise_errors({}, {}).points == 0);
}
