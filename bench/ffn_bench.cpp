// Whole FFN calls, one token, 10 % of the units active, all threads: 768x3072 warm (it stays in the caches), 2048x8192
// cold (in rotation over 1 GiB of layers).
#include <benchmark/benchmark.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "signsplit/cpu.hpp"
#include "signsplit/synthetic.hpp"

namespace signsplit {
namespace {

constexpr double kActive = 0.1;
constexpr index_t kColdBytes = index_t{1} << 30;

/// Layers shared by all benchmarks of a problem: making them takes longer than measuring.
struct Layers {
  std::vector<Weights> weights;
  std::vector<float> x;
  std::string error;
};

Layers make_layers(const Problem& problem, bool cold) {
  Layers layers;
  auto first = synthetic_weights(problem, kActive, 1);
  if (!first) {
    layers.error = first.message();
    return layers;
  }
  layers.weights.push_back(std::move(first).value());
  layers.x = synthetic_input(problem.batch, problem.d_model, 2);
  const index_t count = cold ? ceil_div(kColdBytes, weight_bytes(problem)) : 1;
  while (static_cast<index_t>(layers.weights.size()) < count) {
    auto copy = layers.weights.front().clone();
    if (!copy) {
      layers.error = copy.message();
      return layers;
    }
    layers.weights.push_back(std::move(copy).value());
  }
  return layers;
}

/// Only the layers of the last problem are kept: benchmarks of one problem run after each other.
const Layers& layers_for(const Problem& problem, bool cold) {
  static std::unique_ptr<Layers> kept;
  static std::string kept_for;
  const std::string key = describe(problem) + (cold ? " cold" : " warm");
  if (kept_for != key) {
    kept.reset();
    kept = std::make_unique<Layers>(make_layers(problem, cold));
    kept_for = key;
  }
  return *kept;
}

void run_ffn(benchmark::State& state, Problem problem, Plan plan, bool cold) {
  const Layers& layers = layers_for(problem, cold);
  if (!layers.error.empty()) {
    state.SkipWithError(layers.error.c_str());
    return;
  }
  auto ffn = cpu::Ffn::create(layers.weights.front(), plan, problem.batch);
  if (!ffn) {
    state.SkipWithError(ffn.message().c_str());
    return;
  }
  std::vector<float> y(layers.x.size());
  std::size_t next = 0;
  std::uint64_t bytes = 0;
  for (auto _ : state) {
    const Status bound = ffn->rebind(layers.weights[next++ % layers.weights.size()]);
    const Status status = ffn->run(layers.x, y);
    if (!bound.ok() || !status.ok()) {
      state.SkipWithError((bound.ok() ? status : bound).message().c_str());
      break;
    }
    bytes += weight_bytes(ffn->report().statistics);
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes));
}

void add_problem(const Problem& problem, bool cold) {
  std::vector<Plan> plans;
  for (const bool skip : {false, true}) {
    plans.push_back(default_plan(problem, Strategy::unfused, skip));
    plans.push_back(default_plan(problem, Strategy::row_fused, skip));
  }
  plans.push_back(default_plan(problem, Strategy::certified, true));
  plans.push_back(default_sign_split_plan(problem, Variant::interim, Repair::selective));
  plans.push_back(default_sign_split_plan(problem, Variant::streams, Repair::selective));
  plans.push_back(default_sign_split_plan(problem, Variant::telescoping, Repair::none));
  for (const Plan& plan : plans) {
    const std::string name = "ffn/" + std::to_string(problem.d_model) + "x" + std::to_string(problem.d_ff) + "/" +
                             std::string(to_string(problem.dtype)) + (cold ? "/cold/" : "/warm/") + label(plan);
    benchmark::RegisterBenchmark(name.c_str(), [problem, plan, cold](benchmark::State& state) {
      run_ffn(state, problem, plan, cold);
    })->Unit(benchmark::kMicrosecond)->UseRealTime();
  }
}

const bool registered = [] {
  for (const DType dtype : {DType::bf16, DType::f32, DType::f16, DType::int8}) {
    add_problem({.d_model = 768, .d_ff = 3072, .dtype = dtype}, false);
    add_problem({.d_model = 2048, .d_ff = 8192, .dtype = dtype}, true);
  }
  return true;
}();

}  // namespace
}  // namespace signsplit
