// The plots of the report: SVG by gnuplot, made fit to stand inside an HTML page.
#pragma once

#include <string>
#include <string_view>

#include "signsplit/status.hpp"
#include "tools/report_data.hpp"

namespace signsplit::tools {

/// Runs gnuplot and keeps nothing on disk. One per report: it numbers the plots, so that their ids do not clash.
class Plotter {
 public:
  /// `program` is looked up in PATH.
  explicit Plotter(std::string program = "gnuplot") : program_(std::move(program)) {}

  /// Ok, or not_found with the package that has gnuplot.
  [[nodiscard]] Status available() const;
  /// "gnuplot 5.4 patchlevel 4", or empty.
  [[nodiscard]] std::string version() const;

  // Each gives an <svg> element without fixed size, or the reason why there is none. Colours are the page's CSS
  // variables, the text is the page's font; `title` is for screen readers.
  [[nodiscard]] Result<std::string> bandwidth(const sim::Machine& machine);
  [[nodiscard]] Result<std::string> predicted_against_measured(const ValidationRun& run, sim::Residency residency);
  [[nodiscard]] Result<std::string> relative_times(const ValidationGroup& group);

 private:
  [[nodiscard]] Result<std::string> render(const std::string& script, int width, int height, std::string_view title);
  std::string program_;
  int plots_ = 0;
};

/// plain_text as it may stand inside a single-quoted gnuplot string: what gnuplot or a shell give a meaning to (quotes,
/// backquotes, backslashes, $, |, <, >, @) becomes a space.
[[nodiscard]] std::string plot_text(std::string_view text);

/// gnuplot's SVG document as an element for an HTML page: prolog, namespaces, fixed sizes and gnuplot's own title are
/// gone, ids begin with `id_prefix`, colours are CSS variables. corrupt_file when it is no SVG document.
[[nodiscard]] Result<std::string> inline_svg(std::string_view document, std::string_view id_prefix, std::string_view title);

}  // namespace signsplit::tools
