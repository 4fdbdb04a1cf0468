// Lines over points, as an SVG document.
#pragma once

#include <string>

#include "studies/study.hpp"

namespace signsplit::studies {

/// The script that draws the plot, for gnuplot. Points that are not finite, or not positive on a logarithmic axis, are left out.
[[nodiscard]] std::string gnuplot_script(const Plot& plot);

/// A whole SVG document on white. not_found when gnuplot is not installed.
[[nodiscard]] Result<std::string> draw_svg(const Plot& plot);

}  // namespace signsplit::studies
