// Is fusion lossless, and in which arithmetic? Every schedule against the exact result.
#include <algorithm>
#include <bit>
#include <cmath>

#include "signsplit/cpu.hpp"
#include "signsplit/reference.hpp"
#include "studies/study.hpp"

namespace signsplit::studies {
namespace {

constexpr index_t kBatch = 8;

struct Run {
  std::vector<float> y;
  std::vector<std::uint8_t> active;
};

Result<Run> execute(const Layer& layer, const Plan& plan, index_t tokens, int threads) {
  const auto d = static_cast<std::size_t>(layer.weights.d_model()), f = static_cast<std::size_t>(layer.weights.d_ff());
  Result<cpu::Ffn> ffn = cpu::Ffn::create(layer.weights, plan, kBatch, with_threads(threads));
  if (!ffn) return ffn.status();
  Run run{std::vector<float>(static_cast<std::size_t>(tokens) * d), std::vector<std::uint8_t>(static_cast<std::size_t>(tokens) * f)};
  for (std::size_t first = 0; first < static_cast<std::size_t>(tokens); first += kBatch) {
    const Status status =
        ffn->run(std::span(layer.x).subspan(first * d, kBatch * d), std::span(run.y).subspan(first * d, kBatch * d),
                 std::span(run.active).subspan(first * f, kBatch * f));
    if (!status) return status;
  }
  return run;
}

struct Distance {
  std::vector<std::uint64_t> ulps;  // sorted
  double worst_of_bound = 0.0;

  [[nodiscard]] double beyond(std::uint64_t limit) const {
    const auto first = std::upper_bound(ulps.begin(), ulps.end(), limit);
    return static_cast<double>(ulps.end() - first) / static_cast<double>(ulps.size());
  }
};

/// The bound is on the distance to the real number; the reference is that number rounded: half an ulp is added.
Distance distance(const std::vector<float>& y, const std::vector<float>& exact, const std::vector<double>& bound) {
  Distance result;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double error = std::abs(static_cast<double>(y[i]) - static_cast<double>(exact[i]));
    const double rounding = std::ldexp(std::abs(static_cast<double>(exact[i])), -24) + 0x1p-149;
    result.ulps.push_back(ulp_distance(y[i], exact[i]));
    if (bound[i] + rounding > 0.0) result.worst_of_bound = std::max(result.worst_of_bound, error / (bound[i] + rounding));
  }
  std::sort(result.ulps.begin(), result.ulps.end());
  return result;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float left, float right) {
    return std::bit_cast<std::uint32_t>(left) == std::bit_cast<std::uint32_t>(right);
  });
}

Status examine(const Layer& layer, const Settings& settings, Findings& findings) {
  const index_t tokens = layer.tokens / kBatch * kBatch;
  const Problem problem = layer.weights.problem(kBatch);
  const std::span<const float> x = std::span(layer.x).first(static_cast<std::size_t>(tokens * problem.d_model));
  const Result<ReferenceResult> exact = reference(layer.weights, x, tokens, ReferenceMode::composite, settings.threads);
  if (!exact) return exact.status();
  const Result<Run> base = execute(layer, default_plan(problem, Strategy::row_fused), tokens, settings.threads);
  if (!base) return base.status();
  const bool plotted = findings.plot.series.empty();
  for (const Plan& plan : default_plans(problem)) {
    if (plan.strategy == Strategy::sign_split && plan.skip) continue;  // the bits of the plan without skip
    if (!cpu::can_run(plan, problem)) continue;
    const Result<Run> run = execute(layer, plan, tokens, settings.threads);
    if (!run) return run.status();
    const Result<std::vector<double>> bound = error_bound(plan, layer.weights, x, tokens);
    if (!bound) return bound.status();
    const Distance far = distance(run->y, exact->y, *bound);
    findings.tables[0].rows.push_back({layer.name, std::string(to_string(problem.dtype)), label(plan),
                                       std::string(same_bits(run->y, base->y) ? "yes" : "no"), far.worst_of_bound,
                                       static_cast<double>(far.ulps[far.ulps.size() / 2]),
                                       static_cast<double>(far.ulps.back()),
                                       std::string(run->active == exact->active ? "yes" : "no")});
    if (!plotted || plan.skip || plan.variant == Variant::ignore) continue;
    Series series{label(plan)};
    for (int power = 0; power < 20; ++power) {
      series.points.emplace_back(std::ldexp(1.0, power), far.beyond(std::uint64_t{1} << power));
    }
    findings.plot.series.push_back(std::move(series));
  }
  return {};
}

Result<Findings> run(const Settings& settings) {
  Findings findings{
      {{"schedules",
        {"layer", "weights", "schedule", "same bits as row_fused", "worst error / bound", "median ulp", "max ulp",
         "active units exact"}}},
      {"Outputs farther from the exact result than n units in the last place", "n (ulp)", "fraction of outputs", true, true}};
  for (const Layer& layer : settings.layers) {
    if (const Status status = examine(layer, settings, findings); !status) return status;
  }
  for (const DType dtype : {DType::f32, DType::f16, DType::int8}) {
    Problem problem{.d_model = settings.small ? 96 : 512, .d_ff = settings.small ? 160 : 2048, .dtype = dtype};
    if (dtype == DType::int8) problem.group = 64;
    const Result<Layer> layer = gaussian_layer("gaussian", problem, settings.small ? kBatch : 64, settings);
    if (!layer) return layer.status();
    if (const Status status = examine(*layer, settings, findings); !status) return status;
  }
  return findings;
}

}  // namespace

Study lossless() { return {"lossless", "Is fusion lossless, and in which arithmetic?", run}; }

}  // namespace signsplit::studies
