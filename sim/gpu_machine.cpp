#include "gpu_machine.hpp"

#include <algorithm>
#include <cmath>

namespace signsplit::sim {
namespace {

const char* figure_of(LaunchMode mode) {
  switch (mode) {
    case LaunchMode::stream: return "overheads.launch_stream";
    case LaunchMode::graph: return "overheads.launch_graph";
    case LaunchMode::programmatic: return "overheads.launch_pdl";
    case LaunchMode::cooperative: return "overheads.launch_cooperative";
  }
  return "overheads.launch_graph";
}

/// The outermost cache: what a layer's weights can live in.
double cache_latency_s(const Machine& machine) {
  for (std::size_t i = machine.levels.size(); i-- > 1;) {
    const CacheLevel& level = machine.levels[i];
    if (!level.latency_s) continue;
    const double near = level.latency_s->value;
    return 0.5 * (near + (level.latency_far_s ? level.latency_far_s->value : near));
  }
  return 0.5 * figure(machine, "dram.latency");  // not known: between nothing and memory
}

}  // namespace

double figure(const Machine& machine, const char* path) {
  const auto found = machine.figures.find(path);
  return found != machine.figures.end() ? found->second.value : 0.0;
}

int kernel_count(const Plan& plan) { return is_fused(plan) ? 1 : 2; }

std::string_view to_string(LaunchMode mode) noexcept {
  switch (mode) {
    case LaunchMode::stream: return "stream";
    case LaunchMode::graph: return "graph";
    case LaunchMode::programmatic: return "programmatic";
    case LaunchMode::cooperative: return "cooperative";
  }
  return "graph";
}

std::optional<LaunchMode> parse_launch_mode(std::string_view text) noexcept {
  for (const LaunchMode mode : {LaunchMode::stream, LaunchMode::graph, LaunchMode::programmatic, LaunchMode::cooperative}) {
    if (text == to_string(mode)) return mode;
  }
  return std::nullopt;
}

double saturating(double inflight_bytes, double latency_s, double full_Bps, double sharpness) {
  if (!(latency_s > 0.0) || !(inflight_bytes > 0.0)) return full_Bps;
  const double unloaded = inflight_bytes / latency_s;
  return unloaded * std::pow(1.0 + std::pow(unloaded / full_Bps, sharpness), -1.0 / sharpness);
}

double gpu_latency_s(const Machine& machine, double footprint_bytes) {
  double cache_bytes = 0;
  for (const CacheLevel& level : machine.levels) {
    cache_bytes = std::max(cache_bytes, level.capacity_bytes.value * std::max(1.0, static_cast<double>(machine.units) / level.shared_by_units));
  }
  return footprint_bytes > cache_bytes ? figure(machine, "dram.latency") : cache_latency_s(machine);
}

double gpu_bandwidth(const Machine& machine, int workers, double full_Bps, double latency_s) {
  const auto sharpness = machine.figures.find("dram.saturation");
  const double inflight = workers * figure(machine, "concurrency.inflight_per_unit");
  const double fed = saturating(inflight, latency_s, full_Bps, sharpness != machine.figures.end() ? sharpness->second.value : 2.0);
  const double per_unit = figure(machine, "concurrency.read_per_unit");
  return per_unit > 0.0 ? std::min(fed, workers * per_unit) : fed;
}

Result<Quantity> launch_cost(const Machine& machine, LaunchMode mode) {
  const auto found = machine.figures.find(figure_of(mode));
  if (found == machine.figures.end()) {
    return unsupported("machine " + machine.name + ": has no " + figure_of(mode) + ", so no launches of mode " + std::string(to_string(mode)));
  }
  return found->second;
}

Status add_gpu_boundaries(Terms& terms, const Scenario& scenario, const Machine& machine, double footprint_bytes) {
  const Result<Quantity> launch = launch_cost(machine, scenario.launch_mode);
  if (!launch.ok()) return launch.status();
  const int kernels = kernel_count(scenario.plan);
  // A kernel that is launched programmatically asks for its weights while the one before it drains.
  const int waits = scenario.launch_mode == LaunchMode::programmatic ? 1 : kernels;
  terms.launch = kernels * launch->value;
  terms.first_byte = waits * (gpu_latency_s(machine, footprint_bytes) + figure(machine, "overheads.kernel_drain"));
  terms.barrier = figure(machine, "sync.grid_barrier");
  terms.reduction = cache_latency_s(machine);  // the first read after the barrier hides behind nothing
  return {};
}

}  // namespace signsplit::sim
