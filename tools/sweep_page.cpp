#include "tools/sweep_page.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "report_assets.hpp"
#include "tools/cpu_options.hpp"
#include "tools/html.hpp"
#include "tools/quantity_text.hpp"

namespace signsplit::tools {
namespace {

constexpr double kLeft = 70, kTop = 8, kBottom = 74, kWidth = 640, kHeight = 300;
/// log2 of the ratio at which a colour is full.
constexpr double kFullColour = 0.5;

/// One map: the points of a machine, weight type and batch, shapes × actives.
struct Map {
  const sim::SweepRequest& request;
  std::span<const sim::SweepPoint> points;

  [[nodiscard]] std::size_t columns() const { return request.shapes.size(); }
  [[nodiscard]] std::size_t rows() const { return request.actives.size(); }
  [[nodiscard]] const sim::SweepPoint& at(std::size_t column, std::size_t row) const { return points[column * rows() + row]; }
  [[nodiscard]] bool fused_wins(std::size_t column, std::size_t row) const { return at(column, row).fused_s < at(column, row).unfused_s; }
  [[nodiscard]] double x(std::size_t column) const { return kLeft + kWidth * static_cast<double>(column) / static_cast<double>(columns()); }
  [[nodiscard]] double y(std::size_t row) const { return kTop + kHeight * (1.0 - static_cast<double>(row) / static_cast<double>(rows())); }
};

/// Orange where unfused wins, blue where fused wins; white at a tie.
std::string colour_of(const sim::SweepPoint& point) {
  const double ratio = std::log2(point.unfused_s / point.fused_s);
  const double depth = std::min(1.0, std::abs(ratio) / kFullColour);
  const auto mix = [&](int full) { return static_cast<int>(std::lround(255.0 + (full - 255.0) * depth)); };
  if (point.verdict == sim::Verdict::too_close) return "#b8b8b8";
  return ratio > 0.0 ? fmt::format("#{:02x}{:02x}{:02x}", mix(0x1f), mix(0x5f), mix(0xbf)) : fmt::format("#{:02x}{:02x}{:02x}", mix(0xd9), mix(0x6c), mix(0x0f));
}

std::string cells(const Map& map) {
  std::string svg;
  for (std::size_t c = 0; c < map.columns(); ++c) {
    for (std::size_t r = 0; r < map.rows(); ++r) {
      const sim::SweepPoint& p = map.at(c, r);
      svg += fmt::format("<rect x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" fill=\"{}\"><title>{}x{}, active {}: {}{} {}, {}{} {}: {}</title></rect>\n",
                         map.x(c), map.y(r + 1), map.x(c + 1) - map.x(c), map.y(r) - map.y(r + 1), colour_of(p), p.d_model, p.d_ff,
                         percent_text(p.active), p.fused, p.fused_skips ? "+skip" : "", time_text(p.fused_s), p.unfused,
                         p.unfused_skips ? "+skip" : "", time_text(p.unfused_s), sim::to_string(p.verdict));
    }
  }
  return svg;
}

/// The borders between cells of different winners.
std::string crossover(const Map& map) {
  std::string path;
  for (std::size_t c = 0; c < map.columns(); ++c) {
    for (std::size_t r = 0; r < map.rows(); ++r) {
      if (c + 1 < map.columns() && map.fused_wins(c, r) != map.fused_wins(c + 1, r)) {
        path += fmt::format("M{:.2f} {:.2f}V{:.2f}", map.x(c + 1), map.y(r), map.y(r + 1));
      }
      if (r + 1 < map.rows() && map.fused_wins(c, r) != map.fused_wins(c, r + 1)) {
        path += fmt::format("M{:.2f} {:.2f}H{:.2f}", map.x(c), map.y(r + 1), map.x(c + 1));
      }
    }
  }
  return path.empty() ? "" : fmt::format("<path class=\"crossover\" d=\"{}\" fill=\"none\" stroke=\"#000\" stroke-width=\"2.5\"/>\n", path);
}

/// Every so many, so that at most `most` are written.
std::size_t stride_for(std::size_t count, std::size_t most) { return std::max<std::size_t>(1, (count + most - 1) / most); }

std::string labels(const Map& map) {
  std::string svg;
  for (std::size_t c = 0; c < map.columns(); c += stride_for(map.columns(), 16)) {
    const double x = 0.5 * (map.x(c) + map.x(c + 1)), y = kTop + kHeight + 12;
    svg += fmt::format("<text x=\"{0:.1f}\" y=\"{1:.1f}\" transform=\"rotate(-40 {0:.1f} {1:.1f})\" text-anchor=\"end\">{2}x{3}</text>\n", x, y,
                       map.request.shapes[c].first, map.request.shapes[c].second);
  }
  for (std::size_t r = 0; r < map.rows(); r += stride_for(map.rows(), 14)) {
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n", kLeft - 6,
                       0.5 * (map.y(r) + map.y(r + 1)) + 4, percent_text(map.request.actives[r]));
  }
  return svg;
}

Html heat_map(const Map& map, const std::string& title) {
  const std::string svg = fmt::format(
      "<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\" font-size=\"11\" fill=\"currentColor\">\n{}{}{}</svg>", kLeft + kWidth + 8,
      kTop + kHeight + kBottom, escape_html(title), cells(map), crossover(map), labels(map));
  return element("h2", text(title)) + markup(svg);
}

constexpr std::string_view kPage = R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>signsplit sweep</title>
<style>
{{style}}
</style>
</head>
<body>
<header><h1>Fused or unfused?</h1>
<p class="subtitle">{{what}}</p></header>
<main>
<p>Columns are shapes, rows fractions of active hidden units. Blue: the best fused schedule is predicted to be faster, full
colour at 1.4 times; orange: the best unfused one. Grey: too close to call. The black line runs where the predicted winner
changes. Predictions, not measurements.</p>
{{maps}}
</main>
</body>
</html>
)";

}  // namespace

std::string sweep_page(const sim::SweepRequest& request, std::span<const sim::SweepPoint> points, std::span<const sim::Machine> machines) {
  const std::size_t size = request.shapes.size() * request.actives.size();
  Html maps;
  for (std::size_t begin = 0; begin + size <= points.size() && size > 0; begin += size) {
    const sim::SweepPoint& first = points[begin];
    const std::string title = fmt::format("{}: {}, batch {}", machines[first.machine].name, to_string(first.dtype), first.batch);
    maps += heat_map({request, points.subspan(begin, size)}, title);
  }
  const std::string what = fmt::format("{}{}, {} weights, unfused {}", request.gated ? "gated " : "", to_string(request.activation, request.gated),
                                       to_string(request.residency), to_string(request.unfused_launch));
  return fill_template(kPage, {{"style", markup(std::string(assets::page_css))}, {"what", text(what)}, {"maps", maps}});
}

}  // namespace signsplit::tools
