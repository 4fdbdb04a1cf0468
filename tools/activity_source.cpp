#include "tools/activity_source.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <fmt/format.h>

#include "signsplit/npy.hpp"
#include "tools/analysis_json.hpp"

namespace signsplit::tools {
namespace {

Result<ActivitySource> read_mask(const std::string& file) {
  const Result<FloatMatrix> matrix = read_matrix(file);
  if (!matrix) return matrix.status();
  const bool binary = std::all_of(matrix->values.begin(), matrix->values.end(), [](float value) { return value == 0.0f || value == 1.0f; });
  if (!binary) return invalid_argument(file + ": a mask is [tokens, units] of 0 and 1");
  sim::RecordedMask mask{matrix->rows, matrix->columns, {matrix->values.begin(), matrix->values.end()}};
  const auto open = static_cast<double>(std::count(mask.open.begin(), mask.open.end(), std::uint8_t{1}));
  ActivitySource source{.active = open / static_cast<double>(mask.open.size())};
  source.mask = std::move(mask);
  return source;
}

Result<ActivitySource> read_reports(const std::string& file) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error)) return io_error(file + ": cannot be read");
  std::ifstream stream(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  Result<std::vector<ActivityReport>> reports = activity_from_json(text);
  if (!reports) return Status(reports.status().code(), file + ": " + reports.message());
  ActivitySource source;
  source.active = sim::activity_from(*reports, {}, {}).active;
  source.reports = std::move(*reports);
  return source;
}

}  // namespace

sim::Activity ActivitySource::of(const Plan& plan, const Problem& problem) const {
  if (mask) return sim::activity_from(*mask, plan, problem);
  return reports.empty() ? sim::Activity{.active = active} : sim::activity_from(reports, plan, problem);
}

Status ActivitySource::fits(const Problem& problem) const { return mask ? sim::fits(*mask, problem) : Status{}; }

std::vector<std::uint8_t> ActivitySource::open_units(index_t batch) const {
  return mask ? sim::open_units(*mask, batch) : std::vector<std::uint8_t>();
}

void add_activity_option(CLI::App& command, std::string& file) {
  command
      .add_option("--activity", file,
                  "Measured activity in place of --active: JSON of `signsplit activity`, or a mask [N, F] as `run --mask` writes it (.npy)")
      ->type_name("FILE")
      ->group("The FFN");
}

Result<ActivitySource> read_activity(const std::string& file) {
  return std::filesystem::path(file).extension() == ".npy" ? read_mask(file) : read_reports(file);
}

}  // namespace signsplit::tools
