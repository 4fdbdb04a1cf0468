// A vendor's matrix products, which large batches go to.
#include <algorithm>

#include "gpu_machine.hpp"
#include "lookup.hpp"
#include "signsplit/sim/planner.hpp"

namespace signsplit::sim {

Result<double> gemm_time_s(const PlanRequest& request, const Machine& machine) {
  const Problem& problem = request.problem;
  if (Status status = validate(problem); !status.ok()) return status;
  if (is_gpu(machine)) return unsupported("gemm: is of CPUs (" + machine.name + " is a GPU)");
  if (problem.arithmetic != Arithmetic::f32) return unsupported("gemm: is of f32 sums");
  if (machine.read_bandwidth.empty()) return invalid_argument("machine " + machine.name + ": read_bandwidth has no points");
  const std::optional<Quantity> fma = kernel_rate(machine, machine.isa, "fma_f32");
  if (!fma || !(fma->value > 0.0)) return invalid_argument("machine " + machine.name + ": has no rate fma_f32 for isa \"" + machine.isa + "\"");

  const int threads = request.threads > 0 ? request.threads : std::max(machine.threads, 1);
  const double matrices = static_cast<double>(matrix_count(problem)), batch = static_cast<double>(problem.batch);
  const double elements = matrices * static_cast<double>(problem.d_model) * static_cast<double>(problem.d_ff), weights = 4.0 * elements;
  const double footprint = request.residency == Residency::cold ? machine.read_bandwidth.back().working_set_bytes : weights;
  const double tokens = batch + model_value(machine, "gemm_token_overhead").value;
  const double compute = 2.0 * elements * tokens / (fma->value * threads * model_value(machine, "gemm_efficiency").value);
  const double stream = weights / bandwidth(machine, threads, footprint);
  const double activations = 4.0 * batch * (2.0 * static_cast<double>(problem.d_model) + matrices * static_cast<double>(problem.d_ff));
  return std::max(compute, stream) + activations / bandwidth(machine, threads, activations) + matrices * thread_cost(machine.fork_join_s, threads);
}

}  // namespace signsplit::sim
