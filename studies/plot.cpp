#include "studies/plot.hpp"

#include <cmath>
#include <fmt/format.h>

#include "tools/gnuplot.hpp"

namespace signsplit::studies {
namespace {

/// In gnuplot's single quotes a quote is doubled; nothing else has a meaning.
std::string in_quotes(std::string_view text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

bool drawable(const Plot& plot, double x, double y) {
  return std::isfinite(x) && std::isfinite(y) && (!plot.log_x || x > 0) && (!plot.log_y || y > 0);
}

}  // namespace

std::string gnuplot_script(const Plot& plot) {
  std::string script =
      "set terminal svg noenhanced size 720,420 font 'sans-serif,13' background rgb 'white'\n"
      "set key outside right top\nset grid lc rgb '#dddddd'\nset border lc rgb '#555555'\n";
  script += fmt::format("set title {}\nset xlabel {}\nset ylabel {}\n", in_quotes(plot.title), in_quotes(plot.x_label),
                        in_quotes(plot.y_label));
  if (plot.log_x) script += "set logscale x 2\n";
  if (plot.log_y) script += "set logscale y 10\nset format y '%g'\n";
  std::string lines;
  for (std::size_t i = 0; i < plot.series.size(); ++i) {
    script += fmt::format("$s{} << EOD\n", i);
    for (const auto& [x, y] : plot.series[i].points) {
      if (drawable(plot, x, y)) script += fmt::format("{:.8g} {:.8g}\n", x, y);
    }
    script += "EOD\n";
    lines += fmt::format("{}$s{} using 1:2 with linespoints lw 2 pt {} ps 0.6 title {}", i == 0 ? "" : ", ", i, 5 + i,
                         in_quotes(plot.series[i].name));
  }
  return script + "plot " + lines + "\n";
}

Result<std::string> draw_svg(const Plot& plot) { return tools::run_gnuplot("gnuplot", gnuplot_script(plot)); }

}  // namespace signsplit::studies
