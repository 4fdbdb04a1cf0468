// The measured sections: predictions against times, who won, bytes, exactness, errors.
#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "tools/cpu_options.hpp"
#include "tools/quantity_text.hpp"
#include "tools/report_sections.hpp"
#include "tools/report_text.hpp"

namespace signsplit::tools {
namespace {

Html verdict(bool good, std::string_view yes, std::string_view no) {
  return good ? element("span", text(yes), "good") : element("span", text(no), "bad");
}
Html none() { return text("–"); }

Html figure(const std::string& caption, const Result<std::string>& plot) {
  const Html body = plot.ok() ? markup(*plot) : element("p", text("Plot left out: " + plot.message() + "."), "missing");
  return element("figure", element("figcaption", text(caption)) + body);
}

Html legend() {
  return markup(
      "<ul class=\"legend\">"
      "<li><svg viewBox=\"0 0 10 10\" aria-hidden=\"true\"><circle cx=\"5\" cy=\"5\" r=\"4.5\" fill=\"var(--unfused)\"/></svg>unfused</li>"
      "<li><svg viewBox=\"0 0 10 10\" aria-hidden=\"true\"><rect x=\"1\" y=\"1\" width=\"8\" height=\"8\" fill=\"var(--row-fused)\"/></svg>row_fused</li>"
      "<li><svg viewBox=\"0 0 10 10\" aria-hidden=\"true\"><path d=\"M5 0 10 9 0 9z\" fill=\"var(--sign-split)\"/></svg>sign_split</li>"
      "<li>filled: with skip, hollow: without</li></ul>");
}

struct Fit {
  int points = 0, inside = 0;
  double error = 0;
};

void prediction_row(Table& table, const ValidationGroup& group, const CaseResult& result, Fit& fit) {
  const sim::Prediction* p = prediction_of(group, result);
  const std::string_view style = result.plan ? "" : "vendor";
  if (!ran(result)) {
    table.row({schedule_name(result.label), p ? text(time_text(p->time_s)) : none(), p ? text(time_range_text(p->low_s, p->high_s)) : none(),
               element("span", text("did not run: " + result.error), "wrap"), none(), none(), none()});
    return;
  }
  if (p == nullptr) {
    table.row({schedule_name(result.label), none(), none(), text(time_text(result.median_s)),
               text(time_range_text(result.p10_s, result.p90_s)), none(), none()}, style);
    return;
  }
  const double error = p->time_s / result.median_s - 1;
  const bool inside = result.median_s >= p->low_s && result.median_s <= p->high_s;
  ++fit.points, fit.inside += inside, fit.error += std::abs(error);
  table.row({schedule_name(result.label), text(time_text(p->time_s)), text(time_range_text(p->low_s, p->high_s)),
             text(time_text(result.median_s)), text(time_range_text(result.p10_s, result.p90_s)), text(signed_share_text(error)),
             verdict(inside, "inside", "outside")}, style);
}

Html prediction_table(const ValidationGroup& group, bool open) {
  Table table("Predicted and measured: " + group.name, {{"Schedule", false}, {"Predicted"}, {"90 % interval"}, {"Measured"},
                                                        {"10–90 % of runs"}, {"Error"}, {"Interval", false}});
  Fit fit;
  for (const CaseResult& result : group.measured.cases) prediction_row(table, group, result, fit);
  std::string remark = "not measured";
  if (fit.points > 0) {
    remark = fmt::format("{} schedules, mean error {}, {} inside their interval; read bandwidth in the same run {}", fit.points,
                         share_text(fit.error / fit.points), fit.inside, rate_text(group.measured.read_bandwidth_Bps));
  }
  return collapsible(text(group.name), remark, table.empty() ? Html{} : table.html(), open);
}

Html timed_label(const CaseResult* result) {
  if (result == nullptr) return none();
  return schedule_name(result->label) + element("span", text(time_text(result->median_s)), "sub");
}

/// What the simulator said, and what became of it.
Html decision_cell(const GroupFindings& group) {
  if (!group.group->decision) return none();
  const Html said = text(sim::to_string(group.group->decision->verdict));
  switch (group.outcome) {
    case Outcome::right: return said + element("span", text("right"), "sub good");
    case Outcome::wrong: return said + element("span", text("wrong"), "sub bad");
    default: return said + element("span", text(to_string(group.outcome)), "sub");
  }
}

Html against(const CaseResult& result, const CaseResult* other) {
  return other == nullptr ? none() : text(ratio_text(result.median_s / other->median_s));
}

std::string amount(std::uint64_t bytes) { return bytes == 0 ? "0" : bytes_text(static_cast<double>(bytes)); }

double predicted_difference(const ByteCheck& check) {
  const auto predicted = static_cast<double>(weight_bytes(check.predicted));
  const auto executed = static_cast<double>(weight_bytes(check.executed));
  return executed > 0 ? predicted / executed - 1 : 0;
}

Html bytes_table(std::span<const ByteCheck> checks) {
  Table table("Bytes: " + checks.front().group, {{"Schedule", false}, {"W1"}, {"Wg"}, {"W2"}, {"read again"}, {"x"}, {"h"},
                                                 {"partial y"}, {"predicted"}, {"recounted", false}});
  for (const ByteCheck& check : checks) {
    const Statistics& s = check.executed;
    table.row({schedule_name(check.label), text(amount(s.bytes_up)), text(amount(s.bytes_gate)), text(amount(s.bytes_down)),
               text(amount(s.bytes_up_again + s.bytes_down_again)), text(amount(s.bytes_x)), text(amount(s.bytes_h)),
               text(amount(s.bytes_y)), text(signed_share_text(predicted_difference(check))),
               verdict(check.equal(), "equal", "different")});
  }
  return table.html();
}

bool promises_bits(const Plan& plan) { return plan.strategy != Strategy::sign_split; }

Html bits_cell(const Plan& plan, bool same) {
  if (promises_bits(plan)) return verdict(same, "same", "DIFFERENT");
  return text(same ? "same" : "other, as it may");
}

std::string ulp_text(std::uint64_t ulp) { return ulp > 1'000'000'000 ? "over 10⁹" : fmt::format("{}", ulp); }

void exactness_row(Table& table, const RealLayerCase& result) {
  if (!result.error.empty()) {
    table.row({schedule_name(result.label), element("span", text("did not run: " + result.error), "wrap"), none(), none(), none(), none(),
               none(), none(), none(), none()});
    return;
  }
  const bool ignored = result.plan.variant == Variant::ignore;
  table.row({schedule_name(result.label), bits_cell(result.plan, result.same_bits_as_row_fused),
             verdict(result.active_set_exact, "exact", "DIFFERENT"), text(ulp_text(result.max_ulp)),
             text(significant_text(result.worst_error, 2)),
             result.within_bound ? element("span", text(share_text(result.worst_bound_fraction)), "good")
                                 : element("span", text("OUTSIDE"), "bad"),
             text(fmt::format("{}{}", result.statistics.repaired, ignored ? " (never)" : "")),
             text(fmt::format("{}", result.statistics.rechecked)),
             text(result.prediction ? time_text(result.prediction->time_s) : "–"), text(time_text(result.median_s))});
}

Html real_layer_table(const RealLayer& layer) {
  Table table("The real layer, schedule by schedule",
              {{"Schedule", false}, {"Bits of row_fused", false}, {"Active set", false}, {"Max ulp"}, {"Max error"}, {"of its bound"},
               {"Repaired rows"}, {"Signs rechecked"}, {"Predicted"}, {"Measured"}});
  for (const RealLayerCase& result : layer.cases) exactness_row(table, result);
  Html intro = element("p", text(fmt::format("A trained layer, {}, on {} real inputs ({}, {}): {} of its units are active; the largest "
                                             "output is {}. Times are of one token, warm.",
                                             layer.problem, layer.tokens, layer.weights_file, layer.input_file,
                                             share_text(layer.active), significant_text(layer.largest_output, 3))));
  return intro + table.html();
}

/// On the synthetic layers: who kept its promise, in one sentence, and who did not, by name.
Html synthetic_exactness(const ValidationRun& run) {
  int promised = 0, kept = 0;
  std::uint64_t worst_ulp = 0;
  Html broken;
  for (const ValidationGroup& group : run.groups) {
    for (const CaseResult& result : group.measured.cases) {
      if (!ran(result) || !result.plan || !promises_bits(*result.plan)) continue;
      ++promised, kept += result.same_bits_as_row_fused;
      worst_ulp = std::max(worst_ulp, result.max_ulp);
      if (!result.same_bits_as_row_fused) broken += element("li", schedule_name(result.label) + text(": " + group.name));
    }
  }
  if (promised == 0) return element("p", text("No synthetic layer was run."));
  Html section = element("p", text(fmt::format("On the synthetic layers {} of {} runs of ", kept, promised)) + schedule_name("unfused") +
                                  text(" and ") + schedule_name("row_fused") +
                                  text(fmt::format(" gave the bits of plain row_fused, and all of them were within {} ulp of the "
                                                   "exact reference.", ulp_text(worst_ulp))));
  if (!broken.code.empty()) section += element("p", text("Broken promises:"), "bad") + element("ul", broken);
  return section;
}

void score_row(Table& table, std::string_view name, double mape, double p95, const sim::DecisionScore& score, std::string_view style) {
  table.row({text(name), std::isnan(mape) ? none() : text(share_text(mape)), std::isnan(p95) ? none() : text(share_text(p95)),
             score.abstain_rate >= 1 ? none() : text(share_text(score.decision_accuracy)), text(share_text(score.abstain_rate))},
            style);
}

}  // namespace

Html prediction_plots(const ReportData& data, Plotter& plotter) {
  Html plots;
  for (const sim::Residency residency : {sim::Residency::cold, sim::Residency::warm}) {
    const bool any = std::any_of(data.run.groups.begin(), data.run.groups.end(),
                                 [&](const ValidationGroup& group) { return group.request.residency == residency; });
    if (any) plots += figure(fmt::format("{} weights", residency == sim::Residency::cold ? "Cold" : "Warm"),
                             plotter.predicted_against_measured(data.run, residency));
  }
  if (plots.code.empty()) return element("p", text("Nothing was predicted."), "missing");
  return legend() + element("div", plots, "plots");
}

Html prediction_tables(const ReportData& data) {
  Html tables;
  for (const ValidationGroup& group : data.run.groups) tables += prediction_table(group, tables.code.empty());
  return tables;
}

Html winner_table(Findings found) {
  Table table("Winners", {{"Case", false}, {"Fastest", false}, {"vs unfused"}, {"vs best unfused"}, {"vs onednn"},
                          {"Best sign_split", false}, {"vs best other"}, {"Simulator said", false}});
  for (const GroupFindings& group : found) {
    if (group.best == nullptr) {
      table.row({text(group.group->name), text("not measured"), none(), none(), none(), none(), none(), none()});
      continue;
    }
    table.row({text(group.group->name), timed_label(group.best), against(*group.best, group.unfused),
               against(*group.best, group.best_unfused), against(*group.best, group.vendor), timed_label(group.best_sign_split),
               group.best_sign_split ? against(*group.best_sign_split, group.best_other) : none(), decision_cell(group)});
  }
  if (table.empty()) return element("p", text("No case was run."), "missing");
  return table.html() + element("p", text("Medians as a multiple of another schedule's: below 1 is faster. “Best unfused” may skip too, "
                                          "so that column shows what fusion alone is worth."), "note");
}

Html winner_plots(const ReportData& data, Plotter& plotter) {
  Html plots;
  for (const ValidationGroup& group : data.run.groups) {
    if (!group.measured.cases.empty()) plots += figure(group.name, plotter.relative_times(group));
  }
  if (plots.code.empty()) return {};
  return element("p", text("Whiskers: 10th to 90th percentile. Of each sign_split variant the fastest repair is shown."), "note") +
         element("div", plots, "plots");
}

Html bytes_section(const ReportData& data) {
  if (data.bytes.empty()) return element("p", text("No run was counted."), "missing");
  Html tables;
  std::span<const ByteCheck> rest = data.bytes;
  std::ptrdiff_t equal = 0;
  while (!rest.empty()) {
    const auto other = std::find_if(rest.begin(), rest.end(), [&](const ByteCheck& c) { return c.group != rest.front().group; });
    const auto group = rest.first(static_cast<std::size_t>(other - rest.begin()));
    const auto same = std::count_if(group.begin(), group.end(), [](const ByteCheck& check) { return check.equal(); });
    tables += collapsible(text(group.front().group), fmt::format("recounted equal in {} of {} schedules", same, group.size()),
                          bytes_table(group), tables.code.empty());
    equal += same;
    rest = rest.subspan(group.size());
  }
  const auto all = static_cast<std::ptrdiff_t>(data.bytes.size());
  return element("p", text(fmt::format("{} of {} runs: ", equal, all)) +
                          verdict(equal == all, "every count equal to the byte.", "the others differ, see below.")) + tables;
}

Html exactness_section(const ReportData& data) {
  const Html real = data.real_layer ? real_layer_table(*data.real_layer)
                                    : element("p", text("The real layer was not run: " + data.real_layer_missing), "missing");
  return real + synthetic_exactness(data.run);
}

Html error_section(const ReportData& data, Findings found) {
  const sim::ValidationSummary& s = data.run.summary;
  if (s.points == 0) return element("p", text("There is no prediction with a measurement."), "missing");
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  Table table("Predictors compared", {{"Predictor", false}, {"Mean error"}, {"95th percentile"}, {"Decisions right"}, {"Abstained"}});
  score_row(table, "signsplit", s.mape, s.p95_ape, {s.decision_accuracy, s.abstain_rate}, "best");
  score_row(table, "roofline", s.naive.roofline_mape, kNone, s.naive.roofline, "");
  score_row(table, "roofline + constant launch", s.naive.roofline_launch_mape, kNone, s.naive.roofline_launch, "");
  score_row(table, "always fuse", kNone, kNone, s.naive.always_fuse, "");
  score_row(table, "never fuse", kNone, kNone, s.naive.never_fuse, "");
  const auto wrong = std::count_if(found.begin(), found.end(), [](const auto& group) { return group.outcome == Outcome::wrong; });
  Html section = table.html() +
                 element("p", text(fmt::format("{} predictions in {} cases, in {} of which a decision was taken that measurement can judge. {} of the measured medians lie "
                                               "inside the predicted 90 % interval. The gap between the best fused and the best unfused "
                                               "schedule was mispredicted by {} (median).",
                                               s.points, s.groups, s.decided, share_text(s.coverage_90), time_text(s.gap_median_abs_s))));
  if (wrong > 0) {
    Html list;
    for (const GroupFindings& group : found) {
      if (group.outcome != Outcome::wrong) continue;
      list += element("li", text(fmt::format("{}: it said “{}” by {}; measured, {} took {} and {} {}.", group.group->name,
                                             sim::to_string(group.group->decision->verdict), time_text(group.group->decision->gap_s),
                                             group.best_fused->label, time_text(group.best_fused->median_s),
                                             group.best_unfused->label, time_text(group.best_unfused->median_s))));
    }
    section += element("p", text("Wrong decisions:")) + element("ul", list);
  }
  return section;
}

}  // namespace signsplit::tools
