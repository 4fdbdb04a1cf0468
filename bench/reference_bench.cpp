// The exact reference: what `run --strategy reference` and every ulp column cost.
#include <benchmark/benchmark.h>

#include <vector>

#include "signsplit/exact_sum.hpp"
#include "signsplit/reference.hpp"
#include "signsplit/synthetic.hpp"

namespace signsplit {
namespace {

void exact_sum_add(benchmark::State& state) {
  std::vector<double> terms(4096);
  for (std::size_t i = 0; i < terms.size(); ++i) terms[i] = random_normal(1, i);
  for (auto _ : state) {
    ExactSum sum;
    for (const double term : terms) sum.add(term);
    benchmark::DoNotOptimize(sum.to_float());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(terms.size()));
}
BENCHMARK(exact_sum_add);

/// One token through 4096x16384, bf16, 10 % active.
void reference_layer(benchmark::State& state, ReferenceMode mode) {
  const Problem problem{.d_model = 4096, .d_ff = 16384, .dtype = DType::bf16};
  const auto weights = synthetic_weights(problem, 0.1, 1);
  if (!weights) {
    state.SkipWithError(weights.message().c_str());
    return;
  }
  const std::vector<float> x = synthetic_input(1, problem.d_model, 2);
  for (auto _ : state) {
    auto result = reference(*weights, x, 1, mode);
    benchmark::DoNotOptimize(result);
  }
}
BENCHMARK_CAPTURE(reference_layer, staged, ReferenceMode::staged)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(reference_layer, composite, ReferenceMode::composite)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace signsplit
