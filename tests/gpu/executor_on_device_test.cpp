// The GPU executor gives the bits, the masks and the counters of the CPU's with the same plan. Skipped without a device.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <vector>

#include "signsplit/cpu.hpp"
#include "signsplit/gpu.hpp"
#include "signsplit/synthetic.hpp"
#include "skip_without_device.hpp"

using namespace signsplit;

namespace {

constexpr std::uint64_t kSeed = 1;

struct Output {
  std::vector<float> y;
  std::vector<std::uint8_t> mask;
  Statistics statistics;
};

template <class Ffn>
Output run(Ffn& ffn, std::span<const float> x, const Problem& problem) {
  Output out{std::vector<float>(x.size(), std::numeric_limits<float>::quiet_NaN()),
             std::vector<std::uint8_t>(static_cast<std::size_t>(problem.batch * problem.d_ff), 2),
             {}};
  const Status status = ffn.run(x, out.y, out.mask);
  REQUIRE_MESSAGE(status.ok(), status.message());
  out.statistics = ffn.report().statistics;
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// Runs the plan on both; false when this build has no kernel for it.
bool compare(const Weights& weights, const gpu::DeviceLayer& layer, const Plan& plan, index_t batch, const gpu::Options& options) {
  const Problem problem = weights.problem(batch);
  CAPTURE(describe(problem));
  CAPTURE(to_json(plan));
  CAPTURE(to_string(options.launch));
  const Status runnable = gpu::can_run(plan, problem, options);
  if (runnable.code() == StatusCode::unsupported) {
    MESSAGE("not run: " << label(plan) << ", " << runnable.message());
    return false;
  }
  auto on_cpu = cpu::Ffn::create(weights, plan, batch);
  REQUIRE_MESSAGE(on_cpu.ok(), on_cpu.message());
  auto on_gpu = gpu::Ffn::create(layer, plan, batch, options);
  REQUIRE_MESSAGE(on_gpu.ok(), on_gpu.message());
  const auto x = synthetic_input(batch, weights.d_model(), kSeed + 1);
  const Output expected = run(*on_cpu, x, problem), first = run(*on_gpu, x, problem), second = run(*on_gpu, x, problem);
  CHECK(same_bits(expected.y, first.y));
  CHECK(same_bits(first.y, second.y));
  CHECK(expected.mask == first.mask);
  CHECK_MESSAGE(expected.statistics == first.statistics, to_json(expected.statistics), " on the CPU, ",
                to_json(first.statistics), " on the GPU");
  CHECK(first.statistics == second.statistics);

  std::vector<float> y(x.size());
  const std::vector<const gpu::DeviceLayer*> chain(3, &layer);
  const auto seconds = on_gpu->run_chain(chain, x, y);
  REQUIRE_MESSAGE(seconds.ok(), seconds.message());
  CHECK(*seconds > 0);
  CHECK(same_bits(expected.y, y));
  CHECK(on_gpu->report().statistics == first.statistics);
  return true;
}

TEST_CASE("same plan, same bits, same mask, same counters as the CPU") {
  const auto device = gpu::find_device(0);
  REQUIRE(device.ok());
  int compared = 0;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::int8}) {
    for (const bool gated : {false, true}) {
      const Problem problem{.d_model = 328, .d_ff = 1000, .dtype = dtype, .gated = gated};
      if (!validate(problem)) continue;
      const auto weights = synthetic_weights(problem, 0.3, kSeed);
      if (!weights) continue;
      const auto layer = gpu::DeviceLayer::upload(*weights);
      REQUIRE_MESSAGE(layer.ok(), layer.message());
      for (const Plan& plan : default_plans(problem)) {
        for (const index_t batch : {index_t{1}, index_t{3}, index_t{16}}) {
          compared += compare(*weights, *layer, plan, batch, {}) ? 1 : 0;
          Plan suited = plan;  // a part for every multiprocessor
          suited.parts = device->multiprocessors;
          suited.hidden_tile = 8;
          compared += compare(*weights, *layer, suited, batch, {}) ? 1 : 0;
        }
      }
    }
  }
  CHECK(compared > 0);
}

TEST_CASE("launch modes, stages and cache hints change no bit") {
  const Problem problem{.d_model = 1024, .d_ff = 4096};
  const auto weights = synthetic_weights(problem, 0.1, kSeed);
  REQUIRE(weights.ok());
  const auto layer = gpu::DeviceLayer::upload(*weights);
  REQUIRE_MESSAGE(layer.ok(), layer.message());
  for (const Strategy strategy : {Strategy::unfused, Strategy::row_fused}) {
    for (const bool skip : {false, true}) {
      const Plan plan = default_plan(problem, strategy, skip);
      for (const auto launch : {gpu::Launch::stream, gpu::Launch::graph, gpu::Launch::programmatic, gpu::Launch::cooperative}) {
        compare(*weights, *layer, plan, 1, {.launch = launch});
      }
      compare(*weights, *layer, plan, 1, {.stages = 2});
      compare(*weights, *layer, plan, 1, {.evict_first = false});
    }
  }
}

TEST_CASE("a clone, and a layer bound later, give the bits of the first") {
  const Problem problem{.d_model = 512, .d_ff = 2048};
  const auto weights = synthetic_weights(problem, 0.5, kSeed);
  REQUIRE(weights.ok());
  const auto layer = gpu::DeviceLayer::upload(*weights);
  REQUIRE_MESSAGE(layer.ok(), layer.message());
  const auto copy = layer->clone();
  REQUIRE_MESSAGE(copy.ok(), copy.message());
  auto ffn = gpu::Ffn::create(*layer, default_plan(problem, Strategy::row_fused));
  REQUIRE_MESSAGE(ffn.ok(), ffn.message());
  const auto x = synthetic_input(1, problem.d_model, kSeed + 1);
  const Output first = run(*ffn, x, problem);
  REQUIRE(ffn->rebind(*copy).ok());
  CHECK(same_bits(run(*ffn, x, problem).y, first.y));
  CHECK_FALSE(ffn->run(std::span(x).first(3), std::span<float>()).ok());
}

}  // namespace

int main(int argc, char** argv) { return signsplit::test::run_unless_without_device(argc, argv); }
