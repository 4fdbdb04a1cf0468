#include "tools/published_points.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>

#include <fmt/format.h>

namespace signsplit::tools {
namespace {

/// The rows of a table with a known first line, as texts.
struct Table {
  std::string file;
  std::vector<std::vector<std::string>> rows;
};

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells(1);
  for (const char c : line) {
    if (c == ',') {
      cells.emplace_back();
    } else if (c != '\r') {
      cells.back().push_back(c);
    }
  }
  return cells;
}

Result<Table> read_table(const std::filesystem::path& file, const std::string& header) {
  Table table{file.string(), {}};
  std::ifstream stream(file);
  if (!stream) return not_found(fmt::format("{}: no such file", table.file));
  std::string line;
  std::getline(stream, line);
  if (cells_of(line) != cells_of(header)) return corrupt_file(fmt::format("{}: line 1 must be {}", table.file, header));
  const std::size_t width = cells_of(header).size();
  while (std::getline(stream, line)) {
    table.rows.push_back(cells_of(line));
    if (table.rows.back().size() != width) {
      return corrupt_file(fmt::format("{}: line {} must have {} cells", table.file, table.rows.size() + 1, width));
    }
  }
  return table;
}

/// A positive number of a cell; 0 when it is none.
double number(const std::string& cell) {
  char* end = nullptr;
  const double value = std::strtod(cell.c_str(), &end);
  return end != cell.c_str() && *end == '\0' && std::isfinite(value) && value > 0.0 ? value : 0.0;
}

Status check_numbers(const Table& table, std::initializer_list<std::size_t> columns) {
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    for (const std::size_t column : columns) {
      if (number(table.rows[row][column]) == 0.0) {
        return corrupt_file(fmt::format("{}: line {}, cell {} must be a positive number", table.file, row + 2, column + 1));
      }
    }
  }
  return {};
}

Status read_steps(const std::filesystem::path& folder, PublishedPoints& points) {
  const Result<Table> table = read_table(folder / "gpu_small_steps.csv", "gpu,step_mode,bytes_per_step,median_GBps_over_block_sizes,us_per_step");
  if (!table) return table.status();
  if (const Status status = check_numbers(*table, {2, 4}); !status) return status;
  for (const auto& row : table->rows) {
    auto series = std::find_if(points.steps.begin(), points.steps.end(), [&](const StepSeries& s) { return s.gpu == row[0] && s.mode == row[1]; });
    if (series == points.steps.end()) series = points.steps.insert(series, StepSeries{row[0], row[1], {}});
    series->points.push_back({number(row[2]), number(row[4]) * 1e-6});
  }
  for (StepSeries& series : points.steps) {
    std::stable_sort(series.points.begin(), series.points.end(), [](const sim::StepPoint& a, const sim::StepPoint& b) { return a.bytes < b.bytes; });
  }
  return {};
}

Status read_curves(const std::filesystem::path& folder, PublishedPoints& points) {
  const Result<Table> flight = read_table(folder / "gpu_stream_vs_occupancy.csv",
                                          "gpu,block_size,threads_resident,occupancy_percent,init_GBps,read_GBps,scale_GBps,triad_GBps");
  if (!flight) return flight.status();
  if (const Status status = check_numbers(*flight, {2, 5}); !status) return status;
  for (const auto& row : flight->rows) points.reads_in_flight[row[0]].push_back({8.0 * number(row[2]), number(row[5]) * 1e9});
  const Result<Table> footprint = read_table(folder / "gpu_read_vs_footprint.csv", "gpu,bytes_per_block,total_bytes,read_GBps");
  if (!footprint) return footprint.status();
  if (const Status status = check_numbers(*footprint, {2, 3}); !status) return status;
  for (const auto& row : footprint->rows) points.footprints[row[0]].push_back({number(row[2]), number(row[3]) * 1e9});
  return {};
}

Status read_pairs(const std::filesystem::path& folder, PublishedPoints& points) {
  const Result<Table> table = read_table(folder / "fused_pairs.csv",
                                         "model,batch,gpu,measured_unfused_ms,measured_fused_ms,neusight_unfused_ms,neusight_fused_ms");
  if (!table) return table.status();
  if (const Status status = check_numbers(*table, {1, 3, 4, 5, 6}); !status) return status;
  for (const auto& row : table->rows) {
    points.pairs.push_back({row[0], row[2], static_cast<int>(number(row[1])), number(row[3]), number(row[4]), number(row[5]), number(row[6])});
  }
  return {};
}

}  // namespace

Result<PublishedPoints> read_published(const std::filesystem::path& folder) {
  PublishedPoints points;
  for (const auto read : {read_steps, read_curves, read_pairs}) {
    if (const Status status = read(folder, points); !status) return status;
  }
  return points;
}

}  // namespace signsplit::tools
