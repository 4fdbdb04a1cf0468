#include "parameters.hpp"

#include <algorithm>

#include "fit.hpp"
#include "gpu_machine.hpp"
#include "lookup.hpp"
#include "model_fields.hpp"

namespace signsplit::sim {
namespace {

Parameter bandwidth_parameter(const Machine& machine, int threads) {
  return {"read_bandwidth", "B/s", machine.read_bandwidth.empty() ? 0.0 : dram_bandwidth(machine, threads),
          [](Machine& m, double factor) {
            for (BandwidthPoint& point : m.read_bandwidth) point.bytes_per_s *= factor;
          }};
}

Parameter thread_cost_parameter(const char* name, std::vector<ThreadCost> Machine::*costs, const Machine& machine, int threads) {
  return {name, "s", thread_cost(machine.*costs, threads), [costs](Machine& m, double factor) {
            for (ThreadCost& cost : m.*costs) cost.seconds.value *= factor;
          }};
}

}  // namespace

std::vector<Parameter> parameters_of(const Machine& machine, const Scenario& scenario) {
  const int threads = scenario.threads > 0 ? scenario.threads : std::max(machine.threads, 1);
  const std::string isa = scenario.isa.empty() ? machine.isa : scenario.isa;
  const std::string dtype(scenario.problem.arithmetic == Arithmetic::w8a8 ? "w8a8" : to_string(scenario.problem.dtype));
  std::vector<Parameter> all{bandwidth_parameter(machine, threads),
                             thread_cost_parameter("barrier_s", &Machine::barrier_s, machine, threads),
                             thread_cost_parameter("fork_join_s", &Machine::fork_join_s, machine, threads)};
  for (const auto& [path, quantity] : machine.figures) {  // predictions for a CPU use none
    if (machine.kind != "gpu") break;
    all.push_back({path, quantity.unit, quantity.value, [path = path](Machine& m, double factor) { m.figures[path].value *= factor; }});
  }
  std::vector<std::string> rates{"up_" + dtype, "down_" + dtype, "pieces_" + dtype, "push_" + dtype, "streams_" + dtype, "exact", "certify"};
  if (is_gpu(machine)) rates.insert(rates.end(), {"token_" + dtype, "down_token_" + dtype});
  for (const int tokens : kRatedBatches) {
    if (tokens > 1 && !is_gpu(machine)) rates.insert(rates.end(), {"up_" + dtype + "_" + std::to_string(tokens), "down_" + dtype + "_" + std::to_string(tokens)});
  }
  for (const std::string& name : rates) {
    const std::optional<Quantity> rate = kernel_rate(machine, isa, name);
    if (!rate) continue;
    all.push_back({"rates." + name, "elem/s", rate->value, [isa, name, rate](Machine& m, double factor) {
                     Quantity scaled = *rate;
                     scaled.value *= factor;
                     set_rate(m, isa, name, scaled);
                   }});
  }
  for (const ModelField& field : kModelFields) {
    const std::string name(field.name);
    if (name == "error" || name == "cache_error" || name.ends_with("gap_error") || name == "unlike_error" || name.starts_with("gemm_")) continue;  // no prediction of a plan depends on them
    const Quantity quantity = model_value(machine, name);
    all.push_back({"model." + name, std::string(field.base_unit), quantity.value, [name, quantity](Machine& m, double factor) {
                     Quantity scaled = quantity;
                     scaled.value *= factor;
                     m.model[name] = scaled;
                   }});
  }
  return all;
}

}  // namespace signsplit::sim
