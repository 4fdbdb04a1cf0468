// A GPU's profile from figures of a device that never was: it parses, it predicts, and every number says where it is from.
#include "tools/gpu_profile.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <string>

#include "signsplit/sim/predict.hpp"

using namespace signsplit;
using namespace signsplit::tools;

namespace {

gpu::DeviceFigures figures() {
  gpu::DeviceFigures figures;
  figures.device = {.index = 0, .name = "NVIDIA Made Up-80", .compute_major = 9, .compute_minor = 0, .multiprocessors = 100,
                    .memory_bytes = std::size_t{80} << 30, .l2_bytes = std::size_t{50} << 20, .shared_bytes_per_block = 232448,
                    .clock_hz = 2e9, .memory_peak_Bps = 4e12, .driver_version = 13000, .cooperative_launch = true};
  figures.copy_Bps = 3.2e12;
  figures.read_Bps = 3.5e12;
  figures.read_per_multiprocessor_Bps = 1e11;
  figures.read_by_inflight_bytes = {{2048, 0.5e12}, {8192, 1.8e12}, {32768, 3.45e12}, {131072, 3.5e12}};
  figures.read_by_footprint_bytes = {{4 << 20, 9e12}, {32 << 20, 8e12}, {256 << 20, 3.6e12}};
  figures.launch_stream_s = 2.4e-6;
  figures.launch_graph_s = 1.2e-6;
  figures.launch_programmatic_s = 0.7e-6;
  figures.launch_cooperative_s = 1.5e-6;
  figures.grid_barrier_s = 1.4e-6;
  figures.atomic_barrier_s = 1.1e-6;
  figures.memory_latency_s = 0.6e-6;
  figures.first_byte_s = 0.9e-6;
  return figures;
}

/// Equal but for the roundings of a change of unit and of decimal digits and back: 4 at most. (doctest's Approx allows 1e-5
/// absolutely, which is everything for a time of microseconds.)
bool same(double got, double expected) { return std::abs(got - expected) <= 4 * 0x1p-52 * std::abs(expected); }

}  // namespace

TEST_CASE("a calibrated GPU's profile is one that the simulator takes") {
  const sim::Machine machine = gpu_profile(figures(), "2026-01-01T00:00:00Z");
  const auto parsed = sim::parse_machine(sim::to_json(machine), "made-up");
  REQUIRE_MESSAGE(parsed.ok(), parsed.message());
  CHECK(parsed->name == "made-up-80");
  CHECK(parsed->units == 100);
  CHECK(same(parsed->read_bandwidth.back().bytes_per_s, 3.5e12));
  CHECK(same(parsed->figures.at("sync.grid_barrier").value, 1.1e-6));
  CHECK(same(parsed->figures.at("overheads.kernel_drain").value, 0.3e-6));
  CHECK(same(parsed->figures.at("dram.latency").value, 2048 * 100 / 0.5e12));
  for (const auto& figure : parsed->figures) {
    CAPTURE(figure.first);
    CHECK_FALSE(figure.second.source.empty());
  }
}

TEST_CASE("every number of the profile is the one that was measured or told") {
  const gpu::DeviceFigures from = figures();
  const sim::Machine machine = gpu_profile(from, "2026-01-01T00:00:00Z");
  const std::map<std::string, double> expected{
      {"dram.bandwidth_peak", 4e12},
      {"dram.latency", 2048 * 100 / 0.5e12},  // Little's law at the fewest bytes in flight
      {"concurrency.smem_per_unit", 232448},
      {"concurrency.inflight_per_unit", 232448 - 65536},
      {"concurrency.read_per_unit", 1e11},
      {"overheads.launch_stream", 2.4e-6},
      {"overheads.launch_graph", 1.2e-6},
      {"overheads.launch_pdl", 0.7e-6},
      {"overheads.launch_cooperative", 1.5e-6},
      {"overheads.kernel_drain", 0.3e-6},  // the first byte less the latency
      {"sync.grid_barrier", 1.1e-6},       // by the counter in device memory, as the kernels do it
  };
  CHECK(machine.figures.size() == expected.size());
  for (const auto& figure : expected) {
    CAPTURE(figure.first);
    REQUIRE(machine.figures.count(figure.first) == 1);
    CHECK(same(machine.figures.at(figure.first).value, figure.second));
  }
  CHECK(machine.kind == "gpu");
  CHECK(machine.title == "NVIDIA Made Up-80");
  CHECK(machine.date == "2026-01-01T00:00:00Z");
  CHECK(machine.clock_hz.value == 2e9);
  REQUIRE(machine.levels.size() == 1);
  CHECK(machine.levels[0].capacity_bytes.value == 50.0 * 1024 * 1024);
  CHECK(machine.levels[0].shared_by_units == 100);
  REQUIRE(machine.read_bandwidth.size() == 4);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(machine.read_bandwidth[i].working_set_bytes == from.read_by_footprint_bytes[i].first);
    CHECK(machine.read_bandwidth[i].bytes_per_s == from.read_by_footprint_bytes[i].second);
    CHECK(machine.read_bandwidth[i].threads == 100);
  }
  CHECK(machine.read_bandwidth[3].working_set_bytes == 1024.0 * 1024 * 1024);
  REQUIRE(machine.rates.size() == 1);
  CHECK(machine.rates[0].per_s.value == 2 * 128 * 2e9);  // 128 FMAs per clock, per multiprocessor
  CHECK(machine.figures.at("concurrency.inflight_per_unit").source.find("32 KiB gave 97 %") != std::string::npos);

  gpu::DeviceFigures ampere = from;
  ampere.device.compute_major = 8;
  CHECK(gpu_profile(ampere, "").rates[0].per_s.value == 2 * 64 * 2e9);
  ampere.device.compute_minor = 6;
  CHECK(gpu_profile(ampere, "").rates[0].per_s.value == 2 * 128 * 2e9);
  ampere.first_byte_s = 0.1e-6;  // a difference of two measurements, which noise can turn round
  ampere.device.memory_peak_Bps = 0;
  CHECK(gpu_profile(ampere, "").figures.at("overheads.kernel_drain").value == 0);
  CHECK(gpu_profile(ampere, "").figures.count("dram.bandwidth_peak") == 0);
}

TEST_CASE("a device without programmatic launches has none in its profile") {
  gpu::DeviceFigures old = figures();
  old.launch_programmatic_s = 0;
  CHECK(gpu_profile(old, "").figures.count("overheads.launch_pdl") == 0);
  CHECK(gpu_profile(figures(), "").figures.count("overheads.launch_pdl") == 1);
}

TEST_CASE("plans are predicted with it, in every launch mode, and larger layers take longer") {
  const sim::Machine machine = gpu_profile(figures(), "");
  const auto time = [&](index_t d_model, sim::LaunchMode mode) {
    const Problem problem{.d_model = d_model, .d_ff = 4 * d_model};
    const Plan plan = sim::plan_on(machine, problem, default_plan(problem, Strategy::unfused));
    const auto prediction = sim::predict({.problem = problem, .plan = plan, .launch_mode = mode}, machine);
    REQUIRE_MESSAGE(prediction.ok(), prediction.message());
    return prediction->time_s;
  };
  CHECK(time(4096, sim::LaunchMode::graph) > time(1024, sim::LaunchMode::graph));
  CHECK(time(1024, sim::LaunchMode::stream) > time(1024, sim::LaunchMode::graph));
  CHECK(time(1024, sim::LaunchMode::graph) > time(1024, sim::LaunchMode::programmatic));
}
