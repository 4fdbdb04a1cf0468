// The answer in a paragraph, the four numbers under it, and what could not be decided.
#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "tools/quantity_text.hpp"
#include "tools/report_sections.hpp"
#include "tools/report_text.hpp"

namespace signsplit::tools {
namespace {

std::string cases_text(std::size_t count) { return fmt::format("{} case{}", count, count == 1 ? "" : "s"); }

/// "1.32× (1.10×–1.61×)", or the one value.
std::string range_text(const RatioRange& range) {
  if (range.count < 2 || ratio_text(range.least) == ratio_text(range.greatest)) return ratio_text(range.median);
  return fmt::format("{} ({} to {})", ratio_text(range.median), ratio_text(range.least), ratio_text(range.greatest));
}

/// Ratios of the medians of two cases over all groups that have both.
RatioRange compare(Findings found, const CaseResult* GroupFindings::*over, const CaseResult* GroupFindings::*under) {
  std::vector<double> ratios;
  for (const GroupFindings& group : found) {
    if (group.*over != nullptr && group.*under != nullptr) ratios.push_back((group.*over)->median_s / (group.*under)->median_s);
  }
  return ratio_range(std::move(ratios));
}

struct Champion {
  std::string label;
  std::size_t wins = 0, groups = 0;
};
/// The schedule that was fastest most often.
Champion champion(Findings found) {
  std::map<std::string, std::size_t> wins;
  Champion best;
  for (const GroupFindings& group : found) {
    if (group.best == nullptr) continue;
    ++best.groups;
    ++wins[group.best->label];
  }
  for (const auto& [label, count] : wins) {
    if (count > best.wins) best.label = label, best.wins = count;
  }
  return best;
}

struct Decisions {
  std::size_t right = 0, wrong = 0, abstained = 0, not_separable = 0;
  [[nodiscard]] std::size_t taken() const { return right + wrong; }
};
Decisions decisions(Findings found) {
  Decisions count;
  for (const GroupFindings& group : found) {
    count.right += group.outcome == Outcome::right;
    count.wrong += group.outcome == Outcome::wrong;
    count.abstained += group.outcome == Outcome::abstained;
    count.not_separable += group.outcome == Outcome::not_separable;
  }
  return count;
}

/// How sign_split did against everything else: the unflattering part.
Html sign_split_sentence(Findings found) {
  std::size_t lost = 0, compared = 0;
  const GroupFindings* worst = nullptr;
  const auto ratio = [](const GroupFindings& group) { return group.best_sign_split->median_s / group.best_other->median_s; };
  for (const GroupFindings& group : found) {
    if (group.best_sign_split == nullptr || group.best_other == nullptr) continue;
    ++compared;
    lost += ratio(group) > 1;
    if (worst == nullptr || ratio(group) > ratio(*worst)) worst = &group;
  }
  if (compared == 0) return text("The sign split was not measured. ");
  const RatioRange range = compare(found, &GroupFindings::best_sign_split, &GroupFindings::best_other);
  if (lost == 0) {
    return text(fmt::format("The sign split was never slower here: even in its weakest case its best variant took {} of the time of "
                            "the best other schedule. ",
                            ratio_text(ratio(*worst))));
  }
  return text(lost == compared ? std::string("The sign split lost everywhere: ")
                               : fmt::format("The sign split lost in {} of {}: ", lost, cases_text(compared))) +
         text(fmt::format("its best variant took {} the time of the best other schedule, most in ", range_text(range))) +
         text(worst->group->name) + text(". ");
}

Html winner_sentence(Findings found) {
  const Champion best = champion(found);
  if (best.groups == 0) return text("No schedule could be measured. ");
  Html sentence = text("The fastest schedule on this machine was ") + schedule_name(best.label) +
                  text(fmt::format(", in {} of {}. ", best.wins, cases_text(best.groups)));
  const RatioRange unfused = compare(found, &GroupFindings::best, &GroupFindings::unfused);
  if (unfused.count > 0) {
    sentence += text(fmt::format("The fastest of each case took {} the time of ", range_text(unfused))) + schedule_name("unfused");
    const RatioRange both = compare(found, &GroupFindings::best_fused, &GroupFindings::best_unfused);
    if (both.count > 0) {
      sentence += text(fmt::format("; fusion alone, best fused against best unfused with skipping allowed to both, gives {}",
                                   range_text(both)));
    }
    const RatioRange vendor = compare(found, &GroupFindings::best, &GroupFindings::vendor);
    if (vendor.count > 0) sentence += text(fmt::format("; against the vendor library it took {}", range_text(vendor)));
    sentence += text(". ");
  }
  return sentence;
}

Html prediction_sentence(const ReportData& data, Findings found) {
  const sim::ValidationSummary& summary = data.run.summary;
  if (summary.points == 0) return text("Nothing could be set against a prediction.");
  const Decisions count = decisions(found);
  std::string words = fmt::format("Predictions, written down first, were off by {} on average ({} for a plain roofline), and {} of the "
                                  "measurements lay inside their 90 % interval. ",
                                  share_text(summary.mape), share_text(summary.naive.roofline_mape),
                                  share_text(summary.coverage_90));
  if (count.taken() > 0) {
    words += fmt::format("Of {} decisions between fused and unfused, {} {} right", count.taken(), count.right,
                         count.right == 1 ? "was" : "were");
  } else {
    words += "The simulator decided between fused and unfused in no case that measurement could tell apart";
  }
  if (count.abstained > 0) words += fmt::format("; {} it called too close", cases_text(count.abstained));
  if (count.not_separable > 0) words += fmt::format("; {} could not be told apart by measuring", cases_text(count.not_separable));
  return text(words + ".");
}

Html figure(std::string_view name, const std::string& value, const std::string& remark) {
  return element("div", element("dt", text(name)) + element("dd", text(value) + element("small", text(remark))));
}

std::string gap_text(const CaseResult& a, const CaseResult& b) {
  return fmt::format("{} took {}, {} took {}", a.label, time_range_text(a.p10_s, a.p90_s), b.label, time_range_text(b.p10_s, b.p90_s));
}

Html undecided_item(const GroupFindings& group) {
  Html item = element("strong", text(group.group->name)) + text(": ");
  if (group.outcome == Outcome::abstained) {
    const sim::Decision& decision = *group.group->decision;
    item += text(fmt::format("the simulator abstained. It saw {} ahead of {} by {}, and its own uncertainty is {}. Measured: {}.",
                             decision.winner, decision.loser, time_text(decision.gap_s), time_text(decision.uncertainty_s),
                             gap_text(*group.best_fused, *group.best_unfused)));
  } else if (group.outcome == Outcome::not_separable) {
    item += text(fmt::format("measuring does not tell the best fused and the best unfused schedule apart. {} (10th to 90th percentile).",
                             gap_text(*group.best_fused, *group.best_unfused)));
  } else {
    item += text("not both a prediction and a measurement.");
  }
  return element("li", item);
}

}  // namespace

Html answer_section(const ReportData& data, Findings found) {
  return element("p", sign_split_sentence(found) + winner_sentence(found) + prediction_sentence(data, found), "answer");
}

Html key_figures(const ReportData& data, Findings found) {
  const Champion best = champion(found);
  const RatioRange speed = compare(found, &GroupFindings::best, &GroupFindings::unfused);
  const RatioRange split = compare(found, &GroupFindings::best_sign_split, &GroupFindings::best_other);
  const Decisions count = decisions(found);
  const sim::ValidationSummary& summary = data.run.summary;
  const auto or_none = [](const RatioRange& range) { return range.count > 0 ? ratio_text(range.median) : std::string("n/a"); };
  Html figures = figure("Best sign_split against the best other", or_none(split), "of its time, median of the cases");
  figures += figure("Fastest schedule", best.label.empty() ? "n/a" : best.label,
                    fmt::format("{} the time of unfused, median of the cases", or_none(speed)));
  figures += figure("Fused or unfused: decisions right", fmt::format("{} of {}", count.right, count.taken()),
                    fmt::format("{} abstained, {} too close to measure", count.abstained, count.not_separable));
  figures += figure("Mean error of a predicted time", summary.points > 0 ? share_text(summary.mape) : "n/a",
                    fmt::format("{} points; roofline {}", summary.points,
                                summary.points > 0 ? share_text(summary.naive.roofline_mape) : "n/a"));
  return element("dl", figures, "figures");
}

Html undecided_section(const ReportData& data, Findings found) {
  Html items;
  for (const GroupFindings& group : found) {
    if (group.outcome == Outcome::right || group.outcome == Outcome::wrong) continue;
    items += undecided_item(group);
  }
  for (const std::string& problem : data.run.problems) items += element("li", text(problem));
  if (!data.real_layer) items += element("li", text("The real layer was not run: " + data.real_layer_missing));
  if (!data.gpu_run) {
    const std::string why = data.gpus.empty() ? data.no_gpu : "the report was made for the CPU alone";
    items += element("li", text("Nothing is said about GPUs: " + why));
  }
  if (items.code.empty()) return element("p", text("Nothing: every case was predicted, measured, and told apart."));
  return element("ul", items);
}

}  // namespace signsplit::tools
