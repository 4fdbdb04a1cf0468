#include "tools/trial.hpp"

#include "tools/measure.hpp"

namespace signsplit::tools {

namespace {

Result<std::vector<sim::TrialResult>> results_of(const MeasureResult& measured) {
  std::vector<sim::TrialResult> results;
  for (const CaseResult& result : measured.cases) {
    if (!result.error.empty()) return invalid_argument(result.label + ": " + result.error);
    results.push_back({result.median_s, result.p10_s, result.p90_s, result.statistics, result.paired_s, result.paired_ci90_s});
  }
  return results;
}

}  // namespace

sim::TrialRunner trial_runner(cpu::Isa isa, std::uint64_t seed) {
  return [isa, seed](const sim::TrialRequest& request) -> Result<std::vector<sim::TrialResult>> {
    MeasureOptions options;
    options.threads = request.threads;
    options.isa = isa;
    options.residency = request.residency;
    options.budget_s = request.budget_s;
    options.seed = seed;
    options.measure_read_bandwidth = false;
    options.check_results = false;
    options.still = request.still;
    options.again = [&request](const MeasureResult& measured) {
      const auto results = results_of(measured);
      return results.ok() && request.again && request.again(*results);
    };
    std::vector<CaseRequest> cases;
    for (const Plan& plan : request.plans) cases.push_back({.plan = plan, .seldom = plan.strategy == Strategy::sign_split});
    const Result<MeasureResult> measured = measure(request.problem, request.active, cases, options);
    return measured ? results_of(*measured) : measured.status();
  };
}

Result<MachineProbe> machine_probe(const Executor& executor, const sim::Machine& machine) {
  if (executor.device() != "cpu") return MachineProbe{};
  const Result<sim::NowProbe> probe = sim::NowProbe::make(machine, executor.workers(), executor.isa());
  if (!probe) return probe.status();
  return MachineProbe{[probe = *probe] { return probe.take(); },
                      [probe = *probe](const sim::Reading& reading, bool with_memory) { return probe.still(reading, with_memory); }};
}

}  // namespace signsplit::tools
