// Small batches: a row of W2 can be skipped only when its unit is closed for every token of the batch.
#include <algorithm>
#include <cmath>

#include "signsplit/cpu.hpp"
#include "studies/study.hpp"

namespace signsplit::studies {
namespace {

constexpr index_t kLargestBatch = 16;

/// How often each unit is open over all tokens. [F]
Result<std::vector<double>> open_rates(const Layer& layer, int threads) {
  const auto f = static_cast<std::size_t>(layer.weights.d_ff());
  const Plan plan = default_plan(layer.weights.problem(layer.tokens), Strategy::row_fused);
  Result<cpu::Ffn> ffn = cpu::Ffn::create(layer.weights, plan, layer.tokens, with_threads(threads));
  if (!ffn) return ffn.status();
  std::vector<float> y(static_cast<std::size_t>(layer.tokens * layer.weights.d_model()));
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(layer.tokens) * f);
  if (const Status status = ffn->run(layer.x, y, mask); !status) return status;
  std::vector<double> rates(f);
  for (std::size_t i = 0; i < mask.size(); ++i) rates[i % f] += mask[i] / static_cast<double>(layer.tokens);
  return rates;
}

/// What the union would be if tokens were independent, each unit with the rate given.
double independent_union(const std::vector<double>& rates, double batch) {
  double open = 0;
  for (const double rate : rates) open += 1.0 - std::pow(1.0 - rate, batch);
  return open / static_cast<double>(rates.size());
}

/// All tokens in consecutive batches: statistics of all calls.
Result<Statistics> execute(const Layer& layer, const Plan& plan, index_t batch, int threads) {
  const auto d = static_cast<std::size_t>(layer.weights.d_model()), tokens_per_call = static_cast<std::size_t>(batch);
  Result<cpu::Ffn> ffn = cpu::Ffn::create(layer.weights, plan, batch, with_threads(threads));
  if (!ffn) return ffn.status();
  std::vector<float> y(tokens_per_call * d);
  Statistics total;
  for (std::size_t first = 0; first + tokens_per_call <= static_cast<std::size_t>(layer.tokens); first += tokens_per_call) {
    if (const Status status = ffn->run(std::span(layer.x).subspan(first * d, y.size()), y); !status) return status;
    total += ffn->report().statistics;
  }
  return total;
}

/// Seconds of one call, with the first tokens of the layer: dense, and with skip.
Result<std::vector<double>> measure(const Layer& layer, index_t batch, const Settings& settings) {
  const Problem problem = layer.weights.problem(batch);
  const std::span<const float> x = std::span(layer.x).first(static_cast<std::size_t>(batch * problem.d_model));
  std::vector<float> y(x.size());
  std::vector<cpu::Ffn> ffns;
  for (const bool skip : {false, true}) {
    Result<cpu::Ffn> ffn = cpu::Ffn::create(layer.weights, default_plan(problem, Strategy::row_fused, skip), batch,
                                            with_threads(settings.threads));
    if (!ffn) return ffn.status();
    ffns.push_back(std::move(*ffn));
  }
  Status failed;
  const auto call = [&](std::size_t i) {
    if (const Status status = ffns[i].run(x, y); !status) failed = status;
  };
  std::vector<double> seconds = interleaved_medians({[&] { call(0); }, [&] { call(1); }}, settings.small ? 2 : 41);
  if (!failed) return failed;
  return seconds;
}

Status examine(const Layer& layer, const Settings& settings, Findings& findings) {
  const Result<std::vector<double>> rates = open_rates(layer, settings.threads);
  if (!rates) return rates.status();
  const double active = independent_union(*rates, 1.0);
  Series series{layer.name};
  for (index_t batch = 1; batch <= std::min(kLargestBatch, layer.tokens); batch *= 2) {
    const Problem problem = layer.weights.problem(batch);
    const auto dense = execute(layer, default_plan(problem, Strategy::row_fused), batch, settings.threads);
    const auto skip = execute(layer, default_plan(problem, Strategy::row_fused, true), batch, settings.threads);
    if (!dense || !skip) return dense ? skip.status() : dense.status();
    const auto seconds = measure(layer, batch, settings);
    if (!seconds) return seconds.status();
    const auto size = static_cast<double>(batch), calls = std::floor(static_cast<double>(layer.tokens) / size);
    const double open = static_cast<double>(skip->active_union) / (static_cast<double>(problem.d_ff) * calls);
    findings.tables[0].rows.push_back({layer.name, size, open, independent_union(*rates, size),
                                       1.0 - std::pow(1.0 - active, size), static_cast<double>(weight_bytes(*dense)) / static_cast<double>(weight_bytes(*skip)),
                                       1e6 * (*seconds)[0] / size, 1e6 * (*seconds)[1] / size});
    series.points.emplace_back(size, open);
  }
  findings.plot.series.push_back(std::move(series));
  return {};
}

Result<Findings> run(const Settings& settings) {
  Findings findings{{{"batches",
                      {"layer", "batch", "active union", "if tokens were independent", "and units alike",
                       "dense bytes / skip bytes", "dense, µs per token", "skip, µs per token"}}},
                    {"Units open for at least one token of the batch", "batch", "fraction of units", true}};
  for (const Layer& layer : settings.layers) {
    if (const Status status = examine(layer, settings, findings); !status) return status;
  }
  if (settings.small) return findings;
  // One that does not fit in a cache.
  const Result<Layer> large = gaussian_layer("gaussian-2048x8192", {.d_model = 2048, .d_ff = 8192}, 64, settings);
  if (!large) return large.status();
  if (const Status status = examine(*large, settings, findings); !status) return status;
  return findings;
}

}  // namespace

Study small_batch() { return {"small_batch", "What does skipping gain for a batch of tokens?", run}; }

}  // namespace signsplit::studies
