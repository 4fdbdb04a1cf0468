// What if crossovers are ignored? The error of interim pushes that are never repaired, over the number of K tiles.
#include <algorithm>
#include <cmath>
#include <limits>

#include "signsplit/activity.hpp"
#include "signsplit/cpu.hpp"
#include "studies/study.hpp"

namespace signsplit::studies {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

Result<std::vector<float>> execute(const Layer& layer, const Plan& plan, int threads) {
  std::vector<float> y(static_cast<std::size_t>(layer.tokens * layer.weights.d_model()));
  Result<cpu::Ffn> ffn = cpu::Ffn::create(layer.weights, plan, layer.tokens, with_threads(threads));
  if (!ffn) return ffn.status();
  const Status status = ffn->run(layer.x, y);
  if (!status) return status;
  return y;
}

struct Error {
  double relative = kUndefined;  // ‖y − exact‖ / ‖exact‖ over all tokens
  double worst = kUndefined;     // of one token
  double cosine = kUndefined;    // mean over tokens
};

Error compare(const std::vector<float>& y, const std::vector<float>& exact, std::size_t d) {
  double distance_all = 0, size_all = 0, worst = 0, cosine = 0;
  for (std::size_t first = 0; first < y.size(); first += d) {
    double distance = 0, size = 0, length = 0, product = 0;
    for (std::size_t i = first; i < first + d; ++i) {
      const double a = static_cast<double>(y[i]), b = static_cast<double>(exact[i]);
      distance += (a - b) * (a - b);
      size += b * b;
      length += a * a;
      product += a * b;
    }
    distance_all += distance;
    size_all += size;
    worst = std::max(worst, std::sqrt(distance / size));
    cosine += product / std::sqrt(size * length);
  }
  return {std::sqrt(distance_all / size_all), worst, cosine / static_cast<double>(y.size() / d)};
}

Status examine(const Layer& layer, const Settings& settings, Findings& findings) {
  const Problem problem = layer.weights.problem(layer.tokens);
  std::vector<index_t> tiles;
  for (index_t count = 1; count <= std::min<index_t>(ceil_div(problem.d_model, 64), 16); count *= 2) tiles.push_back(count);
  const auto activity = measure_activity(layer.weights, layer.x, layer.tokens, {{}, {}, tiles, settings.threads});
  if (!activity) return activity.status();
  const auto exact = execute(layer, default_plan(problem, Strategy::row_fused), settings.threads);
  if (!exact) return exact.status();
  Series series{layer.name};
  for (std::size_t i = 0; i < tiles.size(); ++i) {
    Error error;
    if (!problem.gated) {  // act(g)·u of a K tile is no part of act(g)·u: on a gated FFN nothing is defined to be pushed
      const Plan plan = default_sign_split_plan(problem, Variant::ignore, Repair::none, false, tiles[i]);
      const auto y = execute(layer, plan, settings.threads);
      if (!y) return y.status();
      error = compare(*y, *exact, static_cast<std::size_t>(problem.d_model));
      series.points.emplace_back(static_cast<double>(tiles[i]), error.relative);
    }
    findings.tables[0].rows.push_back({layer.name, static_cast<double>(tiles[i]), activity->crossings[i].wrong,
                                       activity->crossings[i].pushed, error.relative, error.worst, error.cosine});
  }
  if (!problem.gated) findings.plot.series.push_back(std::move(series));
  return {};
}

Result<Findings> run(const Settings& settings) {
  Findings findings{{{"errors",
                      {"layer", "K tiles", "units pushed wrongly", "rows pushed per unit", "relative error",
                       "relative error, worst token", "mean cosine"}}},
                    {"Error of y when crossovers are ignored", "K tiles", "relative error", true}};
  for (const Layer& layer : settings.layers) {
    if (const Status status = examine(layer, settings, findings); !status) return status;
  }
  return findings;
}

}  // namespace

Study ignore_crossovers() { return {"ignore_crossovers", "What if crossovers are ignored?", run}; }

}  // namespace signsplit::studies
