// Ask for a prediction: which schedule would be fastest on a machine, without running anything.
//   02_predict [machine]      a name of `signsplit hardware`, a profile (.json), or host
#include <cstdio>
#include <string>
#include <vector>

#include <signsplit/sim/predict.hpp>

namespace ss = signsplit;
namespace sim = signsplit::sim;

int main(int argc, char** argv) {
  const auto machine = sim::find_machine(argc > 1 ? argv[1] : "epyc-zen5-vm");
  if (!machine) {
    std::fprintf(stderr, "%s\n", machine.message().c_str());
    return 1;
  }
  const ss::Problem problem{.d_model = 2048, .d_ff = 8192, .batch = 1, .dtype = ss::DType::bf16};
  const double active = 0.1;  // the fraction of hidden units that ReLU lets through

  std::vector<sim::LabelledPrediction> cases;
  for (const ss::Strategy strategy : {ss::Strategy::unfused, ss::Strategy::row_fused, ss::Strategy::sign_split}) {
    for (const bool skip : {false, true}) {
      const ss::Plan plan = ss::default_plan(problem, strategy, skip);
      sim::Scenario scenario;  // weights from main memory, the machine's own number of threads, unless told otherwise
      scenario.problem = problem;
      scenario.plan = plan;
      scenario.activity = sim::expected_activity(active, plan, problem);
      const auto prediction = sim::predict(scenario, *machine);
      if (!prediction) {
        std::fprintf(stderr, "%s\n", prediction.message().c_str());
        return 1;
      }
      cases.push_back({ss::label(plan), strategy != ss::Strategy::unfused, *prediction});
    }
  }

  std::printf("%s, %.0f %% active, on %s\n", ss::describe(problem).c_str(), 100 * active, machine->title.c_str());
  for (const auto& [label, fused, prediction] : cases) {
    std::printf("%-36s %8.1f us  (%.1f to %.1f)", label.c_str(), 1e6 * prediction.time_s, 1e6 * prediction.low_s,
                1e6 * prediction.high_s);
    for (const auto& [term, seconds] : prediction.terms.named()) {
      if (seconds > 0.01 * prediction.time_s) std::printf("  %s %.1f", term.c_str(), 1e6 * seconds);
    }
    std::printf("\n");
  }
  if (const auto decision = sim::decide(cases, *machine)) {
    std::printf("verdict: %s; %s against %s, %.1f us apart, certain to %.1f us\n",
                std::string(sim::to_string(decision->verdict)).c_str(), decision->winner.c_str(), decision->loser.c_str(),
                1e6 * decision->gap_s, 1e6 * decision->uncertainty_s);
  }
  return 0;
}
