#include "signsplit/sim/explain.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "cost_model.hpp"
#include "parameters.hpp"

namespace signsplit::sim {
namespace {

/// unfused − fused as a function of the factor that one parameter is multiplied with.
using GapAt = std::function<std::optional<double>(double factor)>;

constexpr double kStep = 1.189207115002721;  // 2^(1/4): two crossings closer than this cancel and are not seen
constexpr double kFarthest = 1024.0;

double bisect(const GapAt& gap, double near, double far, bool positive_near) {
  for (int step = 0; step < 50; ++step) {
    const double middle = std::sqrt(near * far);
    const std::optional<double> at = gap(middle);
    (at && (*at > 0.0) == positive_near ? near : far) = middle;
  }
  return std::sqrt(near * far);
}

/// The nearest factor above or below 1 at which the gap changes its sign; 0 when there is none up to `farthest`.
double crossing(const GapAt& gap, double today, double step, double farthest) {
  const bool positive = today > 0.0;
  double before = 1.0;
  for (bool last = false; !last;) {
    double factor = before * step;
    last = step > 1.0 ? factor >= farthest : factor <= farthest;
    if (last) factor = farthest;
    const std::optional<double> at = gap(factor);
    if (!at) return 0.0;
    if ((*at > 0.0) != positive) return bisect(gap, before, factor, positive);
    before = factor;
  }
  return 0.0;
}

struct Search {
  Explanation& explanation;
  double today;

  void look_at(const std::string& name, const std::string& unit, double now, const GapAt& gap, double most) {
    if (now == 0.0 || !std::isfinite(now)) return;
    const double up = most > 1.0 ? crossing(gap, today, kStep, most) : 0.0, down = crossing(gap, today, 1.0 / kStep, 1.0 / kFarthest);
    if (up == 0.0 && down == 0.0) {
      const std::optional<double> half = gap(0.5), twice = gap(std::min(2.0, most));
      const bool flat = half && twice && *half == today && *twice == today;
      (flat ? explanation.unused : explanation.no_flip).push_back(name);
      return;
    }
    const double factor = down == 0.0 || (up != 0.0 && up <= 1.0 / down) ? up : down;
    explanation.flips.push_back({name, unit, now, now * factor, factor});
  }
};

Scenario with_active(Scenario scenario, double factor) {
  scenario.activity = Activity{.active = std::min(1.0, scenario.activity.active * factor)};
  return scenario;
}

std::optional<double> gap_of(const Scenario& fused, const Scenario& unfused, const Machine& machine) {
  const Result<Prediction> a = predict_time(fused, machine), b = predict_time(unfused, machine);
  if (!a.ok() || !b.ok()) return std::nullopt;
  return b->time_s - a->time_s;
}

Terms difference(const Terms& a, const Terms& b) {
  return {a.launch - b.launch,   a.first_byte - b.first_byte, a.stream - b.stream,       a.compute - b.compute,
          a.barrier - b.barrier, a.reduction - b.reduction,   a.imbalance - b.imbalance, a.repair - b.repair};
}

nlohmann::ordered_json terms_json(const Terms& terms) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [name, seconds] : terms.named()) json[name] = seconds;
  return json;
}

}  // namespace

Result<Explanation> explain(const Scenario& fused, const Scenario& unfused, const Machine& machine) {
  try {
    if (fused.problem != unfused.problem) return invalid_argument("explain: both scenarios must be of the same problem");
    const Result<Prediction> a = predict(fused, machine);
    if (!a.ok()) return a.status();
    const Result<Prediction> b = predict(unfused, machine);
    if (!b.ok()) return b.status();
    Explanation explanation;
    explanation.fused = {label(fused.plan), true, *a};
    explanation.unfused = {label(unfused.plan), false, *b};
    const LabelledPrediction both[] = {explanation.fused, explanation.unfused};
    explanation.decision = *decide(both, machine);

    Search search{explanation, b->time_s - a->time_s};
    for (const Parameter& parameter : parameters_of(machine, fused)) {
      search.look_at(parameter.name, parameter.unit, parameter.value, [&](double factor) {
        Machine changed = machine;
        parameter.scale(changed, factor);
        return gap_of(fused, unfused, changed);
      }, kFarthest);
    }
    const double active = fused.activity.active;
    const GapAt model_gap = [&](double factor) { return gap_of(with_active(fused, factor), with_active(unfused, factor), machine); };
    const std::optional<double> modelled = model_gap(1.0);
    if (modelled && (*modelled > 0.0) == (search.today > 0.0)) {  // else measurements say otherwise than the model that the flip is sought in
      Search of_model{explanation, *modelled};
      of_model.look_at("active", "1", active, model_gap, active > 0.0 ? 1.0 / active : 1.0);
    }
    std::stable_sort(explanation.flips.begin(), explanation.flips.end(), [](const Flip& x, const Flip& y) {
      return std::abs(std::log(x.factor)) < std::abs(std::log(y.factor));
    });
    return explanation;
  } catch (const std::exception& failure) {
    return io_error(std::string("explanation: ") + failure.what());
  }
}

std::string to_json(const Explanation& explanation) {
  using Json = nlohmann::ordered_json;
  Json flips = Json::array();
  for (const Flip& flip : explanation.flips) {
    flips.push_back({{"parameter", flip.parameter}, {"unit", flip.unit}, {"now", flip.now}, {"value", flip.value}, {"factor", flip.factor}});
  }
  const Terms &fused = explanation.fused.prediction.terms, &unfused = explanation.unfused.prediction.terms;
  Json json = Json::parse(to_json(std::optional<Decision>(explanation.decision)));
  json["fused"] = explanation.fused.label;
  json["unfused"] = explanation.unfused.label;
  json["terms_fused"] = terms_json(fused);
  json["terms_unfused"] = terms_json(unfused);
  json["terms_gap"] = terms_json(difference(unfused, fused));
  json["flips"] = std::move(flips);
  json["no_flip"] = explanation.no_flip;
  json["unused"] = explanation.unused;
  return json.dump();
}

}  // namespace signsplit::sim
