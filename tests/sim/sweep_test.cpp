// Sweeps: every combination once, and each point what predict says of it.
#include <doctest/doctest.h>

#include <algorithm>

#include "sample_machine.hpp"
#include "signsplit/sim/planner.hpp"
#include "signsplit/sim/sweep.hpp"

using namespace signsplit;
using namespace signsplit::sim;

namespace {

SweepRequest small_request() {
  SweepRequest request;
  request.shapes = {{256, 1024}, {1024, 4096}};
  request.batches = {1, 3};
  request.dtypes = {DType::f32, DType::bf16};
  request.actives = {0.05, 0.5, 1.0};
  return request;
}

}  // namespace

TEST_CASE("a sweep has every combination, in order, and the numbers of predict") {
  Machine slow = test::sample_machine();
  slow.name = "slow, \"very\"";
  for (BandwidthPoint& point : slow.read_bandwidth) point.bytes_per_s /= 4;
  const std::vector<Machine> machines{test::sample_machine(), slow};
  const SweepRequest request = small_request();
  const auto points = sweep(request, machines);
  REQUIRE_MESSAGE(points.ok(), points.message());
  REQUIRE(points->size() == 2 * 2 * 2 * 2 * 3);
  std::size_t i = 0;
  for (std::size_t m = 0; m < machines.size(); ++m) {
    for (const DType dtype : request.dtypes) {
      for (const index_t batch : request.batches) {
        for (const auto& [d, f] : request.shapes) {
          for (const double active : request.actives) {
            const SweepPoint& point = (*points)[i++];
            CHECK(point.machine == m);
            const Problem problem{d, f, batch, dtype, {}, false};
            double fused = 1e9, unfused = 1e9;
            Plan fused_plan, unfused_plan;
            for (const Plan& plan : lossless_default_plans(problem)) {
              double& best = is_fused(plan) ? fused : unfused;
              const double time = predict({problem, plan, {.active = active}, Residency::cold, 0, {}}, machines[m])->time_s;
              if (time < best) (is_fused(plan) ? fused_plan : unfused_plan) = plan;
              best = std::min(best, time);
            }
            CHECK(point.fused == to_string(fused_plan.strategy));
            CHECK(point.fused_skips == fused_plan.skip);
            CHECK(point.unfused_skips == unfused_plan.skip);
            if (point.verdict != Verdict::too_close) CHECK((point.verdict == Verdict::fuse) == (fused < unfused));
            CHECK(point.fused_s == fused);
            CHECK(point.unfused_s == unfused);
            CHECK(point.active == active);
            CHECK((point.verdict == Verdict::too_close) == (std::abs(unfused - fused) <= point.uncertainty_s));
          }
        }
      }
    }
  }
  const std::string csv = to_csv(*points, machines);
  CHECK(std::count(csv.begin(), csv.end(), '\n') == 1 + static_cast<std::ptrdiff_t>(points->size()));
  CHECK(csv.find("\"slow, \"\"very\"\"\",256,1024,1,f32,0.05,") != std::string::npos);
  std::size_t line = csv.find('\n') + 1;  // of the first point: ratio is the third from the end
  const std::string first = csv.substr(line, csv.find('\n', line) - line);
  const std::size_t verdict = first.rfind(','), uncertainty = first.rfind(',', verdict - 1), ratio = first.rfind(',', uncertainty - 1);
  CHECK(test::within(std::stod(first.substr(ratio + 1)), points->front().unfused_s / points->front().fused_s, 1e-5));  // six digits
}

TEST_CASE("a baseline of one region per phase costs the unfused schedule a fork and join more") {
  SweepRequest request = small_request();
  const std::vector<Machine> machines{test::sample_machine()};
  const auto barriers = sweep(request, machines);
  request.unfused_launch = Launch::region_per_phase;
  const auto regions = sweep(request, machines);
  REQUIRE(barriers.ok());
  REQUIRE(regions.ok());
  for (std::size_t i = 0; i < barriers->size(); ++i) {
    CHECK((*regions)[i].unfused_s > (*barriers)[i].unfused_s);
    CHECK((*regions)[i].fused_s == (*barriers)[i].fused_s);
  }
}

TEST_CASE("fused and unfused skip each for itself, and a gated sweep is of gated layers") {
  Machine machine = test::sample_machine();
  machine.model["gather_gap_bytes"].value = 5000;  // rows that lie apart are dear
  const std::vector<Machine> machines{machine};
  SweepRequest request;
  request.shapes = {{1024, 4096}};
  request.batches = {1};
  request.dtypes = {DType::bf16};
  request.actives = {0.5};
  request.activity_of = [](const Plan& plan, const Problem&) {
    Activity activity{.active = 0.5};
    if (plan.skip) activity.pushed = is_fused(plan) ? 0.01 : 0.9;
    return activity;
  };
  const auto points = sweep(request, machines);
  REQUIRE_MESSAGE(points.ok(), points.message());
  CHECK(points->front().fused_skips);
  CHECK_FALSE(points->front().unfused_skips);
  request.activity_of = {};
  request.gated = true;
  const auto gated = sweep(request, machines);
  REQUIRE_MESSAGE(gated.ok(), gated.message());
  double unfused = 1e9;
  const Problem problem{1024, 4096, 1, DType::bf16, {}, true};
  for (const Plan& plan : lossless_default_plans(problem)) {
    if (!is_fused(plan)) unfused = std::min(unfused, predict({problem, plan, {.active = 0.5}, Residency::cold, 0, {}}, machine)->time_s);
  }
  CHECK(gated->front().unfused_s == unfused);
}

TEST_CASE("an empty axis and a machine that knows nothing are errors") {
  const std::vector<Machine> machines{test::sample_machine()};
  SweepRequest request = small_request();
  CHECK_FALSE(sweep(request, {}).ok());
  const std::vector<Machine> ignorant{Machine{}};
  CHECK_FALSE(sweep(request, ignorant).ok());
  request.actives.clear();
  CHECK_FALSE(sweep(request, machines).ok());
}

TEST_CASE("measured activity replaces the axis of fractions") {
  const std::vector<Machine> machines{test::sample_machine()};
  SweepRequest request = small_request(), all_open = request;
  request.actives = {0.05};
  all_open.actives = {1.0};
  request.activity_of = [](const Plan&, const Problem&) { return Activity{.active = 1.0}; };
  const auto measured = sweep(request, machines), model = sweep(all_open, machines);
  REQUIRE(measured.ok());
  REQUIRE(model.ok());
  for (std::size_t i = 0; i < measured->size(); ++i) {
    CHECK((*measured)[i].active == 0.05);
    CHECK((*measured)[i].fused_s == (*model)[i].fused_s);
    CHECK((*measured)[i].unfused_s == (*model)[i].unfused_s);
  }
  request.actives = {0.05, 0.1};
  CHECK_FALSE(sweep(request, machines).ok());
}
