// Everything that a report says, as plain data: what the page shows is what report.json holds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "signsplit/gpu.hpp"
#include "signsplit/sim/machine.hpp"
#include "tools/json_output.hpp"
#include "tools/validation_run.hpp"

namespace signsplit::tools {

/// A schedule on the shipped layer and its real inputs, checked against the exact reference.
struct RealLayerCase {
  Plan plan;
  std::string label;
  double median_s = 0, p10_s = 0, p90_s = 0;         ///< of one token
  std::optional<sim::Prediction> prediction;         ///< of the same shape and active fraction, made before the run
  Statistics statistics;                             ///< of all tokens together
  bool same_bits_as_row_fused = false;
  std::uint64_t max_ulp = 0;                         ///< against the composite reference
  double worst_error = 0;                            ///< max |ŷ − y|
  double worst_bound_fraction = 0;                   ///< max |ŷ − y| / derived bound; > 1: outside
  bool within_bound = false;
  bool active_set_exact = false;                     ///< the mask equals the reference's, unit by unit and token by token
  std::string error;                                 ///< not empty: could not run, and why
};

struct RealLayer {
  std::string weights_file, input_file;              ///< file names without directories
  std::string problem;                               ///< describe() of the problem
  int tokens = 0;
  double active = 0;                                 ///< fraction of open units, exactly as the reference has them
  double largest_output = 0;                         ///< max |y|, to judge worst_error by
  std::vector<RealLayerCase> cases;
};

/// The bytes of one schedule on one problem: predicted before the run, counted by the run, and counted again by the
/// simulator from the run's activity. The last two are to be equal.
struct ByteCheck {
  std::string group, label;
  Statistics predicted, executed, recounted;
  [[nodiscard]] bool equal() const { return executed == recounted; }
};

/// The same on a GPU: calibrated, predicted, measured.
struct GpuRun {
  gpu::Device device;
  sim::Machine machine;
  std::string predictions_file;
  ValidationRun run;
  std::string error;                                 ///< not empty: how far it came, and why no further
};

struct ReportData {
  // How and when
  std::string version, command, started, finished;   ///< times in ISO 8601, UTC
  double duration_s = 0;
  bool quick = false;
  std::uint64_t seed = 1;
  int threads = 0;
  std::string isa;
  std::vector<std::pair<std::string, std::string>> environment;  ///< name, value: system, compiler, oneDNN, ...
  std::string machine_origin;                        ///< "calibrated in this run", or the file it was read from

  // The predictions file
  std::string predictions_file, predictions_written, predictions_sha256;

  sim::Machine machine;
  ValidationRun run;
  std::vector<ByteCheck> bytes;
  std::optional<RealLayer> real_layer;
  std::string real_layer_missing;                    ///< why real_layer is empty
  std::vector<gpu::Device> gpus;
  std::string no_gpu;                                ///< why gpus is empty
  std::optional<GpuRun> gpu_run;                     ///< empty without a GPU, and when none was wanted
};

/// The whole report, with points[] and summary{} of `validate --json` in it.
[[nodiscard]] Json report_json(const ReportData& data);

}  // namespace signsplit::tools
