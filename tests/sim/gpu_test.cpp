// GPUs at level 1: worked by hand on a GPU with round numbers; launch modes, bytes in flight, the whole-layer view.
#include <doctest/doctest.h>

#include <cmath>

#include "gpu_machine.hpp"
#include "lookup.hpp"
#include "sample_machine.hpp"
#include "signsplit/sim/layer.hpp"

using namespace signsplit;
using namespace signsplit::sim;

namespace {

/// Four multiprocessors; 4 TB/s from a cache of 1 MB, 1 TB/s from memory, so much in flight that nothing waits for more.
Machine sample_gpu() {
  const auto by_hand = [](double value, const char* unit) { return Quantity{value, unit, Kind::measured, "by hand", 0.0}; };
  Machine m = test::sample_machine();
  m.kind = m.isa = "gpu";
  m.units = m.threads = 4;
  m.levels = {{"L1", by_hand(1e4, "B"), 1, 128}, {"L2", by_hand(1e6, "B"), 4, 128}};
  m.levels[1].latency_s = by_hand(2e-7, "s");
  m.levels[1].latency_far_s = by_hand(4e-7, "s");
  m.read_bandwidth = {{1e6, 4, 4e12, 0}, {1e8, 4, 1e12, 0}};
  m.barrier_s.clear();
  m.fork_join_s.clear();
  for (Rate& rate : m.rates) rate.isa = "gpu", rate.per_s.value = 1e18;
  m.figures["dram.latency"] = by_hand(5e-7, "s");
  m.figures["concurrency.inflight_per_unit"] = by_hand(1e15, "B");
  m.figures["concurrency.read_per_unit"] = by_hand(1e15, "B/s");
  m.figures["overheads.launch_stream"] = by_hand(2.5e-6, "s");
  m.figures["overheads.launch_graph"] = by_hand(1.25e-6, "s");
  m.figures["overheads.launch_cooperative"] = by_hand(3e-6, "s");
  m.figures["overheads.kernel_drain"] = by_hand(5e-7, "s");
  m.figures["sync.grid_barrier"] = by_hand(1e-6, "s");
  return m;
}

void check_close(double value, double expected) { CHECK(std::abs(value - expected) <= 64 * 0x1p-52 * std::abs(expected)); }

Prediction predicted(const Problem& problem, Strategy strategy, const Machine& machine, LaunchMode mode, Residency residency = Residency::cold) {
  Scenario scenario;
  scenario.problem = problem;
  scenario.plan = plan_on(machine, problem, default_plan(problem, strategy));
  scenario.residency = residency;
  scenario.launch_mode = mode;
  const auto prediction = predict(scenario, machine);
  REQUIRE_MESSAGE(prediction.ok(), prediction.message());
  return *prediction;
}

}  // namespace

TEST_CASE("the boundaries of a GPU, worked by hand") {
  const Machine machine = sample_gpu();
  const Problem problem{1024, 4096, 1, DType::bf16, {}, false};
  for (const auto& [mode, launch] : {std::pair{LaunchMode::stream, 2.5e-6}, {LaunchMode::graph, 1.25e-6}, {LaunchMode::cooperative, 3e-6}}) {
    const Prediction fused = predicted(problem, Strategy::row_fused, machine, mode);
    const Prediction unfused = predicted(problem, Strategy::unfused, machine, mode);
    check_close(fused.terms.launch, launch);
    check_close(unfused.terms.launch, 2 * launch);
    check_close(fused.terms.first_byte, 1e-6);
    check_close(unfused.terms.first_byte, 2e-6);
    check_close(fused.terms.barrier, 1e-6);
    check_close(unfused.terms.barrier, 1e-6);
    check_close(fused.terms.stream, 2.0 * 1024 * 4096 * 2 / 1e12);
    check_close(unfused.terms.stream, fused.terms.stream);
    // Partial sums of four parts written and read, x per part, and the first read after the barrier: a mean of near and far.
    check_close(fused.terms.reduction, (2.0 * 4 * 1024 * 4 + 4 * 1024 * 4) / 4e12 + 3e-7);
  }
}

TEST_CASE("programmatic launches hide the second kernel's first bytes, where a GPU offers them") {
  Machine machine = sample_gpu();
  const Problem problem{1024, 4096, 1, DType::bf16, {}, false};
  Scenario scenario;
  scenario.problem = problem;
  scenario.plan = plan_on(machine, problem, default_plan(problem, Strategy::unfused));
  scenario.launch_mode = LaunchMode::programmatic;
  const auto refused = predict(scenario, machine);
  CHECK(refused.status().code() == StatusCode::unsupported);
  CHECK(refused.message().find("overheads.launch_pdl") != std::string::npos);
  machine.figures["overheads.launch_pdl"] = {8e-7, "s", Kind::measured, "by hand", 0.0};
  check_close(predict(scenario, machine)->terms.first_byte, 1e-6);
  check_close(predict(scenario, machine)->terms.launch, 1.6e-6);
}

TEST_CASE("launch modes have names") {
  for (const LaunchMode mode : {LaunchMode::stream, LaunchMode::graph, LaunchMode::programmatic, LaunchMode::cooperative}) {
    CHECK(parse_launch_mode(to_string(mode)) == mode);
  }
  CHECK_FALSE(parse_launch_mode("pdl").has_value());
}

TEST_CASE("the plan of a GPU has a part for every multiprocessor, of a CPU it is left alone") {
  const Machine gpu = sample_gpu();
  const Problem problem{1024, 4096, 1, DType::bf16, {}, false}, narrow{1024, 3, 1, DType::bf16, {}, false};
  CHECK(plan_on(gpu, problem, default_plan(problem, Strategy::row_fused)).parts == 4);
  CHECK(plan_on(gpu, narrow, default_plan(narrow, Strategy::row_fused)).parts == 3);
  CHECK(validate(plan_on(gpu, narrow, default_plan(narrow, Strategy::row_fused)), narrow).ok());
  const Plan plan = default_plan(problem, Strategy::unfused);
  CHECK(plan_on(test::sample_machine(), problem, plan) == plan);
}

TEST_CASE("bytes in flight: Little's law far below, the full bandwidth far above, half way at the corner") {
  CHECK(saturating(1e3, 1e-6, 1e12, 2.0) == doctest::Approx(1e9).epsilon(1e-5));
  CHECK(saturating(1e12, 1e-6, 1e12, 2.0) == doctest::Approx(1e12).epsilon(1e-5));
  check_close(saturating(1e6, 1e-6, 1e12, 2.0), 1e12 / std::sqrt(2.0));
  Machine machine = sample_gpu();
  machine.figures["concurrency.inflight_per_unit"].value = 1.25e5;  // four of them are 1 TB/s times 0.5 µs
  check_close(bandwidth(machine, 4, 1e9), 1e12 / std::sqrt(2.0));
  CHECK(bandwidth(machine, 1, 1e9) < 0.25e12);
  machine.figures["concurrency.read_per_unit"].value = 1e10;
  check_close(bandwidth(machine, 2, 1e9), 2e10);
}

TEST_CASE("a layer that lives in the second-level cache") {
  const Machine machine = sample_gpu();
  const Problem small{256, 512, 1, DType::bf16, {}, false};
  const Prediction warm = predicted(small, Strategy::row_fused, machine, LaunchMode::graph, Residency::warm);
  const Prediction cold = predicted(small, Strategy::row_fused, machine, LaunchMode::graph);
  check_close(warm.terms.stream, 2.0 * 256 * 512 * 2 / 4e12);
  check_close(cold.terms.stream, 2.0 * 256 * 512 * 2 / 1e12);
  check_close(warm.terms.first_byte, 3e-7 + 5e-7);
}

TEST_CASE("more parts than blocks leave a tail") {
  const Machine machine = sample_gpu();
  const Problem problem{1024, 4096, 1, DType::bf16, {}, false};
  Scenario scenario;
  scenario.problem = problem;
  scenario.plan = plan_on(machine, problem, default_plan(problem, Strategy::row_fused));
  CHECK(predict(scenario, machine)->terms.imbalance == 0.0);
  scenario.plan.parts = 5;  // four blocks, then one alone
  Machine narrow = machine;
  narrow.figures["concurrency.read_per_unit"].value = 2.5e11;  // so that one block cannot have all of the bandwidth
  CHECK(predict(scenario, narrow)->terms.imbalance > 0.0);
}

TEST_CASE("the whole layer: bytes are exact, the cache grows with the context, and overtakes where it should") {
  const Problem problem{1024, 4096, 2, DType::bf16, {}, false};
  const LayerBytes bytes = layer_bytes(problem, {}, 1000);
  CHECK(bytes.ffn == 2u * 1024 * 4096 * 2);
  CHECK(bytes.projections == 4u * 1024 * 1024 * 2);
  CHECK(bytes.kv_cache == 2u * 1000 * 2 * 1024 * 2);
  const Attention grouped{256, 1};
  CHECK(layer_bytes(problem, grouped, 1000).projections == 2u * (1024 * 1024 + 1024 * 256) * 2);
  CHECK(layer_bytes(problem, grouped, 1000).kv_cache == 2u * 1000 * 2 * 256);
  CHECK(break_even_context(problem, {}) == 2048.0);
  const auto even = static_cast<index_t>(break_even_context(problem, {}));
  CHECK(layer_bytes(problem, {}, even).kv_cache == layer_bytes(problem, {}, even).ffn);

  Scenario scenario;
  scenario.problem = problem;
  const Machine gpu = sample_gpu(), cpu = test::sample_machine();
  const auto seconds = attention_s(scenario, {}, 1000, gpu);
  REQUIRE(seconds.ok());
  check_close(*seconds, (4.0 * 1024 * 1024 * 2 + 2.0 * 1000 * 2 * 1024 * 2) / 1e12 + 3 * (1.25e-6 + 1e-6));
  check_close(*attention_s(scenario, {}, 0, cpu), 4.0 * 1024 * 1024 * 2 / 20e9 + 3e-6);
  CHECK(attention_s(scenario, {}, -1, gpu).message().find("context") != std::string::npos);
  CHECK(attention_s(scenario, {-1, 2}, 1, gpu).message().find("kv_width") != std::string::npos);
  CHECK(attention_s(scenario, {0, 9}, 1, gpu).message().find("kv_element_bytes") != std::string::npos);
  scenario.launch_mode = LaunchMode::programmatic;
  CHECK(attention_s(scenario, {}, 1, gpu).status().code() == StatusCode::unsupported);
}
