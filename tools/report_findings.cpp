#include "tools/report_findings.hpp"

#include <algorithm>
#include <cmath>
#include <map>


namespace signsplit::tools {
namespace {

bool is_sign_split(const CaseResult& result) {
  return result.plan.has_value() && result.plan->strategy == Strategy::sign_split;
}
bool computes_the_layer(const CaseResult& result) {
  return !result.plan.has_value() || result.plan->variant != Variant::ignore;
}
void keep_faster(const CaseResult*& best, const CaseResult& candidate) {
  if (best == nullptr || candidate.median_s < best->median_s) best = &candidate;
}

void look_at(GroupFindings& found, const CaseResult& result) {
  if (!ran(result)) return;
  if (!result.plan.has_value()) return keep_faster(found.vendor, result);
  const Plan& plan = *result.plan;
  if (!plan.skip && plan.strategy == Strategy::unfused && found.unfused == nullptr) found.unfused = &result;
  if (!plan.skip && plan.strategy == Strategy::row_fused && found.row_fused == nullptr) found.row_fused = &result;
  if (!computes_the_layer(result)) return;
  keep_faster(found.best, result);
  keep_faster(is_fused(plan) ? found.best_fused : found.best_unfused, result);
  keep_faster(is_sign_split(result) ? found.best_sign_split : found.best_other, result);
}

/// The rule of sim::summarise: the gap is larger than the half spreads, added as independent errors are.
bool separable(const CaseResult& a, const CaseResult& b) {
  return std::abs(a.median_s - b.median_s) > 0.5 * std::hypot(a.p90_s - a.p10_s, b.p90_s - b.p10_s);
}

Outcome outcome_of(const GroupFindings& found) {
  if (found.best_fused == nullptr || found.best_unfused == nullptr || !found.group->decision) return Outcome::no_data;
  if (!separable(*found.best_fused, *found.best_unfused)) return Outcome::not_separable;
  const sim::Verdict verdict = found.group->decision->verdict;
  if (verdict == sim::Verdict::too_close) return Outcome::abstained;
  const bool fused_won = found.best_fused->median_s < found.best_unfused->median_s;
  return fused_won == (verdict == sim::Verdict::fuse) ? Outcome::right : Outcome::wrong;
}

}  // namespace

std::string_view to_string(Outcome outcome) noexcept {
  switch (outcome) {
    case Outcome::right: return "right";
    case Outcome::wrong: return "wrong";
    case Outcome::abstained: return "abstained";
    case Outcome::not_separable: return "too close to measure";
    case Outcome::no_data: return "no data";
  }
  return "";
}

bool ran(const CaseResult& result) noexcept { return result.error.empty() && result.median_s > 0; }

std::vector<GroupFindings> findings(const ValidationRun& run) {
  std::vector<GroupFindings> all;
  all.reserve(run.groups.size());
  for (const ValidationGroup& group : run.groups) {
    GroupFindings found;
    found.group = &group;
    for (const CaseResult& result : group.measured.cases) look_at(found, result);
    found.outcome = outcome_of(found);
    all.push_back(found);
  }
  return all;
}

RatioRange ratio_range(std::vector<double> ratios) {
  if (ratios.empty()) return {};
  std::sort(ratios.begin(), ratios.end());
  const std::size_t n = ratios.size();
  return {static_cast<int>(n), ratios.front(), (ratios[(n - 1) / 2] + ratios[n / 2]) / 2, ratios.back()};
}

const sim::Prediction* prediction_of(const ValidationGroup& group, const CaseResult& result) noexcept {
  if (!result.plan.has_value()) return nullptr;
  for (const sim::LabelledPrediction& prediction : group.predictions) {
    if (prediction.label == result.label) return &prediction.prediction;
  }
  return nullptr;
}

std::vector<const CaseResult*> headline_cases(const ValidationGroup& group) {
  std::vector<const CaseResult*> lines;
  std::map<Variant, const CaseResult*> fastest;
  for (const CaseResult& result : group.measured.cases) {
    if (!ran(result)) continue;
    if (is_sign_split(result)) {
      keep_faster(fastest[result.plan->variant], result);
    } else {
      lines.push_back(&result);
    }
  }
  for (const auto& [variant, result] : fastest) lines.push_back(result);
  std::stable_sort(lines.begin(), lines.end(),
                   [](const CaseResult* a, const CaseResult* b) { return a->median_s < b->median_s; });
  return lines;
}

}  // namespace signsplit::tools
