#include "tools/report_page.hpp"

#include "tools/html.hpp"
#include "report_assets.hpp"
#include "tools/report_sections.hpp"

namespace signsplit::tools {

std::string report_page(const ReportData& data, Plotter& plotter) {
  const std::vector<GroupFindings> found = findings(data.run);
  return fill_template(assets::page_html, {{"style", markup(std::string(assets::page_css))},
                                           {"version", text(data.version)},
                                           {"machine_title", text(data.machine.title)},
                                           {"finished", text(data.finished)},
                                           {"answer", answer_section(data, found)},
                                           {"key_figures", key_figures(data, found)},
                                           {"machine", machine_section(data, plotter)},
                                           {"gpu", gpu_section(data)},
                                           {"prediction_plots", prediction_plots(data, plotter)},
                                           {"prediction_tables", prediction_tables(data)},
                                           {"winner_table", winner_table(found)},
                                           {"winner_plots", winner_plots(data, plotter)},
                                           {"bytes", bytes_section(data)},
                                           {"exactness", exactness_section(data)},
                                           {"errors", error_section(data, found)},
                                           {"undecided", undecided_section(data, found)},
                                           {"reproduce", reproduce_section(data, plotter)}});
}

}  // namespace signsplit::tools
