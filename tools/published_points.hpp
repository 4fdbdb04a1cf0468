// Tables of published GPU measurements (te42kyfo/gpu-benches, NeuSight): what `gpu-fit` fits and tests the model on.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "signsplit/sim/gpu_fit.hpp"

namespace signsplit::tools {

/// One GPU in one way of starting steps, sorted by bytes.
struct StepSeries {
  std::string gpu, mode;
  std::vector<sim::StepPoint> points;
};
/// A whole model not fused and fused, milliseconds.
struct FusedPair {
  std::string model, gpu;
  int batch = 1;
  double measured_unfused_ms = 0, measured_fused_ms = 0, predicted_unfused_ms = 0, predicted_fused_ms = 0;
};
struct PublishedPoints {
  std::vector<StepSeries> steps;
  std::map<std::string, std::vector<sim::SaturationPoint>> reads_in_flight;  ///< by GPU; 8 bytes per resident thread
  std::map<std::string, std::vector<sim::FootprintPoint>> footprints;        ///< by GPU
  std::vector<FusedPair> pairs;
};
/// Reads the four CSV files of the folder. not_found, or corrupt_file that names file, line and rule.
[[nodiscard]] Result<PublishedPoints> read_published(const std::filesystem::path& folder);

}  // namespace signsplit::tools
