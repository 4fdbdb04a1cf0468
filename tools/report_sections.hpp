// The sections of the page, one function each. Each is whole in itself: what is missing is said, with the reason.
#pragma once

#include <span>

#include "tools/html.hpp"
#include "tools/report_data.hpp"
#include "tools/report_findings.hpp"
#include "tools/report_plots.hpp"

namespace signsplit::tools {

using Findings = std::span<const GroupFindings>;

[[nodiscard]] Html answer_section(const ReportData& data, Findings found);      ///< one paragraph
[[nodiscard]] Html key_figures(const ReportData& data, Findings found);         ///< the four numbers under it
[[nodiscard]] Html machine_section(const ReportData& data, Plotter& plotter);
[[nodiscard]] Html gpu_section(const ReportData& data);
[[nodiscard]] Html prediction_plots(const ReportData& data, Plotter& plotter);
[[nodiscard]] Html prediction_tables(const ReportData& data);
[[nodiscard]] Html winner_table(Findings found);
[[nodiscard]] Html winner_plots(const ReportData& data, Plotter& plotter);
[[nodiscard]] Html bytes_section(const ReportData& data);
[[nodiscard]] Html exactness_section(const ReportData& data);
[[nodiscard]] Html error_section(const ReportData& data, Findings found);
[[nodiscard]] Html undecided_section(const ReportData& data, Findings found);
[[nodiscard]] Html reproduce_section(const ReportData& data, const Plotter& plotter);

}  // namespace signsplit::tools
