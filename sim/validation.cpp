#include "signsplit/sim/validation.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/quantile.hpp"
#include "lookup.hpp"

namespace signsplit::sim {
namespace {

enum class Choice { abstain, fuse, keep };

/// The two points that a group's decision is between: the best fused and the best unfused one by some time.
struct Pair {
  const ValidationPoint* fused = nullptr;
  const ValidationPoint* unfused = nullptr;
};

using Group = std::vector<const ValidationPoint*>;
using TimeOf = double ValidationPoint::*;

Pair best_of(const Group& group, TimeOf time) {
  Pair best;
  for (const ValidationPoint* point : group) {
    const ValidationPoint*& place = point->fused ? best.fused : best.unfused;
    if (place == nullptr || point->*time < place->*time) place = point;
  }
  return best;
}

/// unfused − fused: positive when fusing wins.
double gap_of(const Pair& pair, TimeOf time) { return pair.unfused->*time - pair.fused->*time; }

Choice by_sign(double gap) { return gap > 0.0 ? Choice::fuse : gap < 0.0 ? Choice::keep : Choice::abstain; }

double half_width(const ValidationPoint& point) { return 0.5 * (point.high_s - point.low_s); }

/// The simulator's and the measurement's word on any two points.
double uncertainty_of(const ValidationPoint& a, const ValidationPoint& b, const Machine& machine) {
  const bool has_terms = a.terms.total() > 0.0 && b.terms.total() > 0.0;
  const auto prediction = [](const ValidationPoint& point) { return Prediction{point.predicted_s, point.low_s, point.high_s, point.terms, {}, point.memory}; };
  return has_terms ? gap_uncertainty_s(prediction(a), prediction(b), machine) : std::hypot(half_width(a), half_width(b));
}

/// unfused − fused as measured, and how far that may be off.
struct MeasuredGap {
  double seconds = 0, uncertainty_s = 0;
};

MeasuredGap measured_gap(const Pair& pair) {
  const ValidationPoint &a = *pair.unfused, &b = *pair.fused;
  if (a.paired_s > 0.0 && b.paired_s > 0.0) return {a.paired_s - b.paired_s, std::hypot(a.paired_ci90_s, b.paired_ci90_s)};
  return {a.measured_s - b.measured_s, 0.5 * std::hypot(a.measured_p90_s - a.measured_p10_s, b.measured_p90_s - b.measured_p10_s)};
}

Choice simulators_choice(const Pair& pair, const Machine& machine) {
  const double gap = gap_of(pair, &ValidationPoint::predicted_s);
  return std::abs(gap) > uncertainty_of(*pair.fused, *pair.unfused, machine) ? by_sign(gap) : Choice::abstain;
}

/// What the measurement says; abstain when it cannot tell.
Choice measured_choice(const Pair& pair) {
  const MeasuredGap gap = measured_gap(pair);
  return std::abs(gap.seconds) > gap.uncertainty_s ? by_sign(gap.seconds) : Choice::abstain;
}

/// Right and taken decisions of one predictor.
struct Tally {
  int right = 0, decided = 0, abstained = 0, groups = 0;
  int measurable = 0, abstained_measurable = 0;  ///< of those that measuring can decide
  void add(Choice choice, Choice truth) {
    ++groups;
    if (choice == Choice::abstain) ++abstained;
    if (truth != Choice::abstain) ++measurable;
    if (truth != Choice::abstain && choice == Choice::abstain) ++abstained_measurable;
    if (choice == Choice::abstain || truth == Choice::abstain) return;
    ++decided;
    if (choice == truth) ++right;
  }
  [[nodiscard]] DecisionScore score() const {
    return {decided > 0 ? static_cast<double>(right) / decided : 0.0,
            groups > 0 ? static_cast<double>(abstained) / groups : 0.0,
            measurable > 0 ? static_cast<double>(abstained_measurable) / measurable : 0.0};
  }
};

bool usable(const ValidationPoint& point) {
  for (const double seconds : {point.predicted_s, point.measured_s}) {
    if (!(seconds > 0.0) || !std::isfinite(seconds)) return false;
  }
  return true;
}

/// The smallest value that at least a share q of them does not exceed.
double nearest_rank(std::vector<double> values, double q) {
  if (values.empty()) return 0.0;
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<std::size_t>(std::ceil(q * static_cast<double>(values.size()) - 1e-9));
  return values[std::max<std::size_t>(rank, 1) - 1];
}

std::vector<double> relative_errors(const std::vector<const ValidationPoint*>& points, TimeOf time) {
  std::vector<double> errors;
  for (const ValidationPoint* point : points) errors.push_back(std::abs(point->*time - point->measured_s) / point->measured_s);
  return errors;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0.0 : sum / static_cast<double>(values.size());
}

void summarise_points(ValidationSummary& summary, const std::vector<const ValidationPoint*>& points) {
  const std::vector<double> errors = relative_errors(points, &ValidationPoint::predicted_s);
  int inside = 0;
  for (const ValidationPoint* point : points) inside += point->low_s <= point->measured_s && point->measured_s <= point->high_s;
  summary.points = static_cast<int>(points.size());
  summary.mape = mean(errors);
  summary.p95_ape = nearest_rank(errors, 0.95);
  summary.coverage_90 = points.empty() ? 0.0 : static_cast<double>(inside) / static_cast<double>(points.size());
  summary.naive.roofline_mape = mean(relative_errors(points, &ValidationPoint::roofline_s));
  summary.naive.roofline_launch_mape = mean(relative_errors(points, &ValidationPoint::roofline_launch_s));
}

void summarise_groups(ValidationSummary& summary, const std::map<std::string, Group>& groups, const Machine& machine) {
  Tally ours, roofline, roofline_launch, always, never;
  std::vector<double> gap_errors;
  for (const auto& [name, group] : groups) {
    const Pair measured = best_of(group, &ValidationPoint::measured_s);
    if (measured.fused == nullptr || measured.unfused == nullptr) continue;
    const Pair predicted = best_of(group, &ValidationPoint::predicted_s);
    const Choice truth = measured_choice(measured);
    ours.add(simulators_choice(predicted, machine), truth);
    for (const auto& [tally, time] : {std::pair<Tally*, TimeOf>{&roofline, &ValidationPoint::roofline_s},
                                      std::pair<Tally*, TimeOf>{&roofline_launch, &ValidationPoint::roofline_launch_s}}) {
      tally->add(by_sign(gap_of(best_of(group, time), time)), truth);
    }
    always.add(Choice::fuse, truth);
    never.add(Choice::keep, truth);
    gap_errors.push_back(std::abs(gap_of(predicted, &ValidationPoint::predicted_s) - gap_of(measured, &ValidationPoint::measured_s)));
  }
  summary.groups = ours.groups;
  summary.decided = ours.decided;
  summary.decision_accuracy = ours.score().decision_accuracy;
  summary.abstain_rate = ours.score().abstain_rate;
  summary.abstain_where_measurable = ours.score().abstain_where_measurable;
  summary.gap_median_abs_s = median(gap_errors);
  summary.naive.roofline = roofline.score();
  summary.naive.roofline_launch = roofline_launch.score();
  summary.naive.always_fuse = always.score();
  summary.naive.never_fuse = never.score();
}

/// Every two points of a group: `fused` and `unfused` of a Pair stand for the first and the second.
void summarise_pairs(ValidationSummary& summary, const std::map<std::string, Group>& groups, const Machine& machine) {
  Tally ours, roofline, roofline_launch;
  for (const auto& [name, group] : groups) {
    for (std::size_t i = 0; i < group.size(); ++i) {
      for (std::size_t j = i + 1; j < group.size(); ++j) {
        const Pair pair{group[i], group[j]};
        const Choice truth = measured_choice(pair);
        ours.add(simulators_choice(pair, machine), truth);
        roofline.add(by_sign(gap_of(pair, &ValidationPoint::roofline_s)), truth);
        roofline_launch.add(by_sign(gap_of(pair, &ValidationPoint::roofline_launch_s)), truth);
      }
    }
  }
  summary.pairs = ours.groups;
  summary.pairs_decided = ours.decided;
  summary.pair_decisions = ours.score();
  summary.naive.roofline_pairs = roofline.score();
  summary.naive.roofline_launch_pairs = roofline_launch.score();
}

const ValidationPoint* least(const Group& group, TimeOf time) {
  const ValidationPoint* best = nullptr;
  for (const ValidationPoint* point : group) {
    if (point->candidate && (best == nullptr || point->*time < best->*time)) best = point;
  }
  return best;
}

void summarise_regret(ValidationSummary& summary, const std::map<std::string, Group>& groups) {
  std::vector<double> regrets, always;
  for (const auto& [name, group] : groups) {
    const ValidationPoint* best = least(group, &ValidationPoint::measured_s);
    if (best == nullptr) continue;
    regrets.push_back(least(group, &ValidationPoint::predicted_s)->measured_s / best->measured_s - 1.0);
    summary.regret_worst = std::max(summary.regret_worst, regrets.back());
    for (const ValidationPoint* point : group) {
      if (point->label == "row_fused+skip") always.push_back(point->measured_s / best->measured_s - 1.0);
    }
  }
  summary.regret_mean = mean(regrets);
  summary.naive.regret_row_fused_skip = mean(always);
}

void summarise_strategies(ValidationSummary& summary, const std::vector<const ValidationPoint*>& points) {
  double all = 0;
  for (const ValidationPoint* point : points) {
    const auto known = std::find_if(summary.strategies.begin(), summary.strategies.end(),
                                    [&](const StrategyErrors& errors) { return errors.label == point->label; });
    StrategyErrors& errors = known != summary.strategies.end() ? *known : summary.strategies.emplace_back(StrategyErrors{point->label, 0, 0, 0, 0});
    const double error = point->predicted_s / point->measured_s - 1.0;
    ++errors.points;
    errors.mape += std::abs(error);
    errors.bias += error;
    if (std::abs(error) > std::abs(errors.worst)) errors.worst = error;
    all += error;
  }
  for (StrategyErrors& errors : summary.strategies) {
    errors.mape /= errors.points;
    errors.bias /= errors.points;
  }
  summary.bias = points.empty() ? 0.0 : all / static_cast<double>(points.size());
}

}  // namespace

ValidationSummary summarise(std::span<const ValidationPoint> points, const Machine& machine) {
  ValidationSummary summary;
  std::vector<const ValidationPoint*> kept;
  std::map<std::string, Group> groups;
  for (const ValidationPoint& point : points) {
    if (!usable(point)) continue;
    kept.push_back(&point);
    groups[point.group].push_back(&point);
  }
  summarise_points(summary, kept);
  summarise_groups(summary, groups, machine);
  summarise_pairs(summary, groups, machine);
  summarise_regret(summary, groups);
  summarise_strategies(summary, kept);
  return summary;
}

}  // namespace signsplit::sim
