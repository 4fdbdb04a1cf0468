#include "tools/report_plots.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "tools/cpu_options.hpp"
#include "tools/gnuplot.hpp"
#include "tools/html.hpp"
#include "tools/report_findings.hpp"
#include "tools/quantity_text.hpp"
#include "tools/report_text.hpp"

namespace signsplit::tools {
namespace {

// Plots are drawn for the width of a phone, and the page shows them no wider than that: 17 units of text stay readable.
constexpr int kWidth = 420;
constexpr int kFontSize = 17;

/// Colours by name; see kColours of inline_svg.cpp.
constexpr std::string_view kRule = "#010105", kMuted = "#010106", kText = "#010107", kErrorBar = "#010108";

std::string in_quotes(std::string_view text) { return "'" + plot_text(text) + "'"; }

enum class Family { unfused, row_fused, sign_split, certified, vendor };
Family family(const CaseResult& result) {
  if (!result.plan.has_value()) return Family::vendor;
  switch (result.plan->strategy) {
    case Strategy::unfused: return Family::unfused;
    case Strategy::row_fused: return Family::row_fused;
    case Strategy::sign_split: return Family::sign_split;
    case Strategy::certified: return Family::certified;
  }
  return Family::vendor;
}
std::string_view colour(Family which) {
  switch (which) {
    case Family::unfused: return "#010101";
    case Family::row_fused: return "#010102";
    case Family::sign_split: return "#010103";
    case Family::certified: return "#010109";
    case Family::vendor: return "#010104";
  }
  return kText;
}
/// gnuplot's point types: circle, square, triangle, pentagon, diamond; hollow, and filled with skip.
int point_type(Family which, bool skip) {
  static constexpr int kHollow[] = {6, 4, 8, 14, 12};  // by Family
  return kHollow[static_cast<int>(which)] + (skip ? 1 : 0);
}

std::string tic_text(double seconds) {
  if (seconds < 0.9995e-6) return fmt::format("{:.0f} ns", seconds * 1e9);
  if (seconds < 0.9995e-3) return fmt::format("{:.0f} µs", seconds * 1e6);
  return seconds < 0.9995 ? fmt::format("{:.0f} ms", seconds * 1e3) : fmt::format("{:.0f} s", seconds);
}

/// "10 µs" at 1, 2 and 5 (or, over more than one and a half decades, at 1 only).
std::string time_tics(double low, double high) {
  const bool dense = std::log10(high / low) < 1.6;
  std::string tics;
  for (int decade = static_cast<int>(std::floor(std::log10(low))); std::pow(10.0, decade) <= high; ++decade) {
    for (const double step : {1.0, 2.0, 5.0}) {
      const double at = step * std::pow(10.0, decade);
      if (at < low || at > high || (step != 1.0 && !dense)) continue;
      tics += fmt::format("{}{} {:.6g}", tics.empty() ? "" : ", ", in_quotes(tic_text(at)), at);
    }
  }
  return tics;
}

std::string size_tics(double low, double high) {
  std::string tics;
  for (double at = 1024; at <= high * 1.001; at *= 2) {
    const int power = static_cast<int>(std::lround(std::log2(at / 1024)));
    if (at < low * 0.999 || power % 5 != 0) continue;
    tics += fmt::format("{}{} {:.0f}", tics.empty() ? "" : ", ", in_quotes(capacity_text(at)), at);
  }
  return tics;
}

struct ScatterPoint {
  Family family;
  bool skip;
  double predicted, low, high, measured, p10, p90;
};

std::vector<ScatterPoint> scatter_points(const ValidationRun& run, sim::Residency residency) {
  std::vector<ScatterPoint> points;
  for (const ValidationGroup& group : run.groups) {
    if (group.request.residency != residency) continue;
    for (const CaseResult& result : group.measured.cases) {
      const sim::Prediction* prediction = prediction_of(group, result);
      // A logarithmic axis has no place for a bound of zero.
      if (!ran(result) || prediction == nullptr || !(prediction->time_s > 0)) continue;
      const double low = prediction->low_s > 0 ? prediction->low_s : prediction->time_s;
      points.push_back({family(result), result.plan->skip, prediction->time_s, low, prediction->high_s, result.median_s,
                        result.p10_s > 0 ? result.p10_s : result.median_s, result.p90_s});
    }
  }
  return points;
}

std::string scatter_script(const std::vector<ScatterPoint>& points) {
  double low = points.front().low, high = points.front().high;
  std::string blocks, plots;
  std::set<std::pair<Family, bool>> series;
  for (const ScatterPoint& p : points) {
    low = std::min({low, p.low, p.predicted, p.p10, p.measured});
    high = std::max({high, p.high, p.predicted, p.p90, p.measured});
    series.emplace(p.family, p.skip);
  }
  low /= 1.15, high *= 1.15;
  for (const auto& [which, skip] : series) {
    const std::string block = fmt::format("$points{}{}", static_cast<int>(which), skip ? "s" : "");
    blocks += block + " << EOD\n";
    for (const ScatterPoint& p : points) {
      if (p.family != which || p.skip != skip) continue;
      blocks += fmt::format("{:.6g} {:.6g} {:.6g} {:.6g} {:.6g} {:.6g}\n", p.predicted, p.measured, p.low, p.high, p.p10, p.p90);
    }
    blocks += "EOD\n";
    plots += fmt::format(", {0} using 1:2:3:4:5:6 with xyerrorbars linecolor rgb '{1}' pointtype 0 pointsize 0 linewidth 0.6"
                         ", {0} using 1:2 with points linecolor rgb '{2}' pointtype {3} pointsize 0.85 linewidth 1.4",
                         block, kErrorBar, colour(which), point_type(which, skip));
  }
  return blocks +
         fmt::format("set logscale xy\nset xrange [{0:.6g}:{1:.6g}]\nset yrange [{0:.6g}:{1:.6g}]\n"
                     "set xtics nomirror ({2})\nset ytics nomirror ({2})\n"
                     "set lmargin at screen 0.21\nset rmargin at screen 0.96\nset tmargin at screen 0.9\nset bmargin at screen 0.2\n"
                     "set xlabel 'predicted' offset 0,0.3\nset label 1 'measured' at graph -0.26, graph 1.085 left\n"
                     "plot x with lines linecolor rgb '{3}' linewidth 1.2 dashtype 2{4}\n",
                     low, high, time_tics(low, high), kMuted, plots);
}

std::string bandwidth_script(const sim::Machine& machine) {
  std::set<int> threads;
  double low = machine.read_bandwidth.front().working_set_bytes, high = low, top = 0;
  for (const sim::BandwidthPoint& point : machine.read_bandwidth) {
    threads.insert(point.threads);
    low = std::min(low, point.working_set_bytes), high = std::max(high, point.working_set_bytes);
    top = std::max(top, (point.bytes_per_s + point.ci90) / 1e9);
  }
  std::string blocks, plots, caches;
  int index = 0;
  for (const int count : threads) {
    blocks += fmt::format("$threads{} << EOD\n", count);
    for (const sim::BandwidthPoint& point : machine.read_bandwidth) {
      if (point.threads != count) continue;
      blocks += fmt::format("{:.6g} {:.6g} {:.6g}\n", point.working_set_bytes, point.bytes_per_s / 1e9, point.ci90 / 1e9);
    }
    blocks += "EOD\n";
    plots += fmt::format("{}$threads{} using 1:2:3 with yerrorlines linecolor rgb '#01010{}' pointtype {} pointsize 0.7 linewidth 2 "
                         "title '{} thread{}'",
                         index == 0 ? "" : ", ", count, 2 + index % 3, 7 - 2 * (index % 2), count, count == 1 ? "" : "s");
    ++index;
  }
  for (const sim::CacheLevel& level : machine.levels) {
    const double capacity = level.capacity_bytes.value;
    if (capacity <= low || capacity >= high) continue;
    caches += fmt::format("set arrow from {0:.6g}, graph 0 to {0:.6g}, graph 1 nohead linecolor rgb '{1}' dashtype 3 linewidth 1\n"
                          "set label {2} at {0:.6g}, graph 1.06 center textcolor rgb '{1}'\n",
                          capacity, kMuted, in_quotes(level.name));
  }
  return blocks + caches +
         fmt::format("set logscale x\nset xrange [{:.6g}:{:.6g}]\nset yrange [0:{:.6g}]\nset xtics nomirror ({})\nset ytics nomirror\n"
                     "set lmargin at screen 0.14\nset rmargin at screen 0.96\nset tmargin at screen 0.82\nset bmargin at screen 0.25\n"
                     "set xlabel 'working set'\nset label 'GB/s' at screen 0.01, screen 0.95 left\n"
                     "set key top right Right samplen 1.5\nplot {}\n",
                     low / 1.1, high * 1.1, top * 1.12, size_tics(low, high), plots);
}

constexpr int kBarPitch = 44;   // units of height per bar: a line of text and the bar under it
constexpr int kBarTop = 14, kBarBottom = 70;
constexpr double kLongestBar = 3.0;  // a bar beyond is cut off; its number is not

std::string bars_script(const std::vector<const CaseResult*>& cases, double yardstick) {
  double longest = 1.05;
  std::string rows, plots, labels;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const CaseResult& result = *cases[i];
    const double at = static_cast<double>(cases.size() - i) - 0.68;
    longest = std::max(longest, result.p90_s / yardstick * 1.03);
    rows += fmt::format("$bar{} << EOD\n{:.6g} {:.3f} {:.6g} {:.6g}\nEOD\n", i, result.median_s / yardstick, at,
                        result.p10_s / yardstick, result.p90_s / yardstick);
    plots += fmt::format(", $bar{0} using 1:2:(0):1:($2-0.17):($2+0.17) with boxxyerror fillstyle solid {3} linecolor rgb '{1}'"
                         ", $bar{0} using 1:2:3:4 with xerrorbars linecolor rgb '{2}' pointtype 0 pointsize 0 linewidth 1.5",
                         i, colour(family(result)), kText, "1.0 noborder");
    labels += fmt::format("set label {} at graph 0, first {:.3f} left\nset label {} at graph 1, first {:.3f} right\n",
                          in_quotes(result.label), at + 0.42, in_quotes(ratio_text(result.median_s / yardstick)), at + 0.42);
  }
  longest = std::min(longest, kLongestBar);
  const double height = kBarTop + kBarBottom + kBarPitch * static_cast<double>(cases.size());
  return rows + labels +
         fmt::format("set xrange [0:{:.6g}]\nset yrange [0:{}]\nunset ytics\nset border 1\nset xtics nomirror {}\n"
                     "set grid noytics\nset lmargin at screen 0.01\nset rmargin at screen 0.97\n"
                     "set tmargin at screen {:.4f}\nset bmargin at screen {:.4f}\nset xlabel 'time, unfused = 1 (shorter is faster)' offset 0,0.4\n"
                     "set arrow from 1, graph 0 to 1, graph 1 nohead front linecolor rgb '{}' dashtype 2 linewidth 1\n"
                     "plot NaN notitle{}\n",
                     longest, cases.size(), longest > 1.6 ? "0.5" : "0.25", 1 - kBarTop / height, kBarBottom / height, kMuted, plots);
}

}  // namespace

std::string plot_text(std::string_view text) {
  std::string out = plain_text(text);
  std::replace_if(out.begin(), out.end(), [](char c) { return std::string_view("'\"`\\$|<>@").find(c) != std::string_view::npos; }, ' ');
  return out;
}

Status Plotter::available() const { return gnuplot_version(program_).status(); }

std::string Plotter::version() const {
  const Result<std::string> text = gnuplot_version(program_);
  return text.ok() ? *text : std::string();
}

Result<std::string> Plotter::render(const std::string& script, int width, int height, std::string_view title) {
  const std::string whole =
      fmt::format("set encoding utf8\nset terminal svg size {},{} dynamic font 'sans-serif,{}' noenhanced\n"
                  "set border 3 linecolor rgb '{}' linewidth 1\nset key off\nset tics textcolor rgb '{}' scale 0.6\n"
                  "set grid linecolor rgb '{}' linewidth 1 dashtype 1\n{}",
                  width, height, kFontSize, kMuted, kText, kRule, script);
  const Result<std::string> document = run_gnuplot(program_, whole);
  if (!document.ok()) return document;
  return inline_svg(*document, fmt::format("plot{}-", ++plots_), title);
}

Result<std::string> Plotter::bandwidth(const sim::Machine& machine) {
  if (machine.read_bandwidth.empty()) return not_found("the profile has no bandwidth curve");
  return render(bandwidth_script(machine), kWidth, 330, "Read bandwidth against working set, one line per number of threads");
}

Result<std::string> Plotter::predicted_against_measured(const ValidationRun& run, sim::Residency residency) {
  const std::vector<ScatterPoint> points = scatter_points(run, residency);
  if (points.empty()) return not_found(fmt::format("nothing was measured {}", to_string(residency)));
  return render(scatter_script(points), kWidth, kWidth,
                fmt::format("Predicted against measured time, {} weights, {} schedules", to_string(residency), points.size()));
}

Result<std::string> Plotter::relative_times(const ValidationGroup& group) {
  const std::vector<const CaseResult*> cases = headline_cases(group);
  double yardstick = 0;
  for (const CaseResult* result : cases) {
    if (result->plan && result->plan->strategy == Strategy::unfused && !result->plan->skip) yardstick = result->median_s;
  }
  if (!(yardstick > 0)) return not_found("unfused, the yardstick, was not measured");
  return render(bars_script(cases, yardstick), kWidth, kBarTop + kBarBottom + kBarPitch * static_cast<int>(cases.size()),
                fmt::format("Measured time relative to unfused: {}", group.name));
}

}  // namespace signsplit::tools
