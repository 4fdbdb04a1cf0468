#include "signsplit/sim/layer.hpp"

#include <algorithm>

#include "gpu_machine.hpp"
#include "lookup.hpp"

namespace signsplit::sim {
namespace {

constexpr int kBoundaries = 3;

std::uint64_t u64(index_t n) { return static_cast<std::uint64_t>(n); }

index_t kv_width(const Problem& problem, const Attention& attention) {
  return attention.kv_width > 0 ? attention.kv_width : problem.d_model;
}

std::uint64_t kv_bytes_per_position(const Problem& problem, const Attention& attention) {
  return u64(problem.batch) * 2 * u64(kv_width(problem, attention)) * u64(attention.kv_element_bytes);
}

double boundary_s(const Scenario& scenario, const Machine& machine, int workers, double footprint) {
  if (!is_gpu(machine)) return thread_cost(machine.barrier_s, workers) + model_value(machine, "first_byte_s").value;
  const Result<Quantity> launch = launch_cost(machine, scenario.launch_mode);
  return (launch.ok() ? launch->value : 0.0) + gpu_latency_s(machine, footprint) + figure(machine, "overheads.kernel_drain");
}

}  // namespace

LayerBytes layer_bytes(const Problem& problem, const Attention& attention, index_t context) {
  LayerBytes bytes;
  bytes.ffn = u64(weight_bytes(problem));
  const std::uint64_t elements = 2 * u64(problem.d_model) * (u64(problem.d_model) + u64(kv_width(problem, attention)));
  bytes.projections = elements * u64(dtype_bytes(problem.dtype));
  bytes.kv_cache = u64(std::max<index_t>(context, 0)) * kv_bytes_per_position(problem, attention);
  return bytes;
}

double break_even_context(const Problem& problem, const Attention& attention) {
  return static_cast<double>(weight_bytes(problem)) / static_cast<double>(kv_bytes_per_position(problem, attention));
}

Result<double> attention_s(const Scenario& scenario, const Attention& attention, index_t context, const Machine& machine) {
  if (Status status = validate(scenario.problem); !status.ok()) return status;
  if (attention.kv_width < 0 || attention.kv_width > kMaxExtent) return invalid_argument("attention.kv_width must be in [0, 2^24]");
  if (attention.kv_element_bytes < 1 || attention.kv_element_bytes > 8) return invalid_argument("attention.kv_element_bytes must be in [1, 8]");
  if (context < 0 || context > (index_t{1} << 32)) return invalid_argument("context must be in [0, 2^32]");
  if (machine.read_bandwidth.empty()) return invalid_argument("machine " + machine.name + ": read_bandwidth has no points");
  if (is_gpu(machine)) {
    if (const Result<Quantity> launch = launch_cost(machine, scenario.launch_mode); !launch.ok()) return launch.status();
  }
  const int workers = scenario.threads > 0 ? scenario.threads : std::max(machine.threads, 1);
  const LayerBytes bytes = layer_bytes(scenario.problem, attention, context);
  const double far = machine.read_bandwidth.back().working_set_bytes * 1e6;  // beyond every cache
  const double rate = bandwidth(machine, workers, far) * model_value(machine, "stream_efficiency").value;
  return static_cast<double>(bytes.projections + bytes.kv_cache) / rate + kBoundaries * boundary_s(scenario, machine, workers, far);
}

}  // namespace signsplit::sim
