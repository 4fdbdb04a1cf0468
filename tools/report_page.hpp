// The HTML page of the report: one file, no scripts, nothing fetched.
#pragma once

#include <string>

#include "tools/report_data.hpp"
#include "tools/report_plots.hpp"

namespace signsplit::tools {

/// The whole page. Without gnuplot the plots are left out, and the page says which package has it.
[[nodiscard]] std::string report_page(const ReportData& data, Plotter& plotter);

}  // namespace signsplit::tools
