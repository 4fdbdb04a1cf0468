#include "tools/trial.hpp"

#include "tools/measure.hpp"

namespace signsplit::tools {

sim::TrialRunner trial_runner(cpu::Isa isa, std::uint64_t seed) {
  return [isa, seed](const sim::TrialRequest& request) -> Result<sim::TrialResult> {
    MeasureOptions options;
    options.threads = request.threads;
    options.isa = isa;
    options.residency = request.residency;
    options.budget_s = request.budget_s;
    options.seed = seed;
    options.measure_read_bandwidth = false;
    options.check_results = false;
    const CaseRequest only{request.plan, {}};
    const Result<MeasureResult> measured = measure(request.problem, request.active, {&only, 1}, options);
    if (!measured) return measured.status();
    const CaseResult& result = measured->cases.front();
    if (!result.error.empty()) return invalid_argument(result.label + ": " + result.error);
    return sim::TrialResult{result.median_s, result.p10_s, result.p90_s, result.statistics};
  };
}

}  // namespace signsplit::tools
