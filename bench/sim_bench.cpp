// The simulator's own time: level 1, level 2, the planner, and a sweep. What docs/simulator.md says of it comes from here.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "signsplit/sim/events.hpp"
#include "signsplit/sim/planner.hpp"
#include "signsplit/sim/sweep.hpp"

namespace signsplit {
namespace {

constexpr const char* kCpu = "epyc-zen5-vm";
constexpr const char* kGpu = "h200";

/// The plan as the machine would be given it, 10 % of the units active.
sim::Scenario scenario_of(const Problem& problem, const Plan& plan, const sim::Machine& machine) {
  return {problem, sim::plan_on(machine, problem, plan), {.active = 0.1}};
}

/// One prediction of level 1 with its interval, walk and count of bytes included.
void predict(benchmark::State& state, const char* name, const Problem& problem, const Plan& plan) {
  const auto machine = sim::find_machine(name);
  if (!machine) return state.SkipWithError(machine.message().c_str());
  const sim::Scenario scenario = scenario_of(problem, plan, *machine);
  for (auto _ : state) {
    const auto prediction = sim::predict(scenario, *machine);
    if (!prediction) {
      state.SkipWithError(prediction.message().c_str());
      break;
    }
    double time_s = prediction->time_s;
    benchmark::DoNotOptimize(time_s);
  }
}

/// One timeline of level 2.
void simulate(benchmark::State& state, const Problem& problem, const Plan& plan) {
  const auto machine = sim::find_machine(kCpu);
  if (!machine) return state.SkipWithError(machine.message().c_str());
  const sim::Scenario scenario = scenario_of(problem, plan, *machine);
  for (auto _ : state) {
    const auto timeline = sim::simulate(scenario, *machine);
    if (!timeline) {
      state.SkipWithError(timeline.message().c_str());
      break;
    }
    double time_s = timeline->time_s;
    benchmark::DoNotOptimize(time_s);
  }
}

/// What `auto` costs when no wisdom answers: every candidate predicted.
void estimate(benchmark::State& state, const char* name) {
  const auto machine = sim::find_machine(name);
  if (!machine) return state.SkipWithError(machine.message().c_str());
  const sim::PlanRequest request{.problem = {.d_model = 4096, .d_ff = 16384}, .activity = {.active = 0.1}};
  for (auto _ : state) {
    const auto chosen = sim::plan_for(request, *machine);
    if (!chosen) {
      state.SkipWithError(chosen.message().c_str());
      break;
    }
    double time_s = chosen->time_s;
    benchmark::DoNotOptimize(time_s);
  }
}

/// 100,000 points on one CPU, on all cores.
void sweep(benchmark::State& state) {
  const auto machine = sim::find_machine(kCpu);
  if (!machine) return state.SkipWithError(machine.message().c_str());
  sim::SweepRequest request;
  request.actives.clear();
  request.shapes = {{512, 2048}, {1024, 4096}, {2048, 8192}, {4096, 16384}, {8192, 32768}};
  request.batches = {1, 2, 4, 8, 16};
  request.dtypes = {DType::f32, DType::bf16, DType::f16, DType::int8};
  for (int i = 1; i <= 1000; ++i) request.actives.push_back(i / 1000.0);
  for (auto _ : state) {
    const auto points = sim::sweep(request, {&*machine, 1});
    if (!points) {
      state.SkipWithError(points.message().c_str());
      break;
    }
    benchmark::DoNotOptimize(points->data());
  }
  state.SetItemsProcessed(state.iterations() * 100'000);
}

const bool registered = [] {
  for (const auto& [d_model, d_ff] : {std::pair<index_t, index_t>{512, 2048}, {4096, 16384}}) {
    const Problem problem{.d_model = d_model, .d_ff = d_ff};
    const std::string shape = std::to_string(d_model) + "x" + std::to_string(d_ff) + "/";
    const Plan plans[] = {default_plan(problem, Strategy::row_fused, true), default_plan(problem, Strategy::unfused),
                          default_plan(problem, Strategy::certified, true),
                          default_sign_split_plan(problem, Variant::telescoping, Repair::none, true)};
    for (const Plan& plan : plans) {
      for (const char* machine : {kCpu, kGpu}) {
        benchmark::RegisterBenchmark(("sim/predict/" + shape + machine + "/" + label(plan)).c_str(),
                                     [=](benchmark::State& state) { predict(state, machine, problem, plan); })
            ->Unit(benchmark::kMicrosecond);
      }
      benchmark::RegisterBenchmark(("sim/simulate/" + shape + label(plan)).c_str(),
                                   [=](benchmark::State& state) { simulate(state, problem, plan); })
          ->Unit(benchmark::kMicrosecond);
    }
  }
  for (const char* machine : {kCpu, kGpu}) {
    benchmark::RegisterBenchmark((std::string("sim/plan_for/4096x16384/") + machine).c_str(),
                                 [=](benchmark::State& state) { estimate(state, machine); })
        ->Unit(benchmark::kMicrosecond);
  }
  benchmark::RegisterBenchmark("sim/sweep/100000_points", sweep)->Unit(benchmark::kMillisecond)->UseRealTime();
  return true;
}();

}  // namespace
}  // namespace signsplit
