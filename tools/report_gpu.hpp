// The report's part about GPUs: calibrate, predict, write the predictions down, measure.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "signsplit/status.hpp"
#include "tools/report_data.hpp"

namespace signsplit::tools {

/// The GPUs of this machine, and the one that a report measures.
struct ReportGpus {
  std::vector<gpu::Device> found;
  std::string none;                   ///< why nothing was found
  std::optional<gpu::Device> chosen;
};

/// `device` as --device has it: that GPU, or why it cannot be used; "cpu": none; "": the first, where there is one.
[[nodiscard]] Result<ReportGpus> choose_gpu(const std::string& device);

/// Writes gpu-machine.json and gpu-predictions.json into the directory. What goes wrong is in the run's `error`.
[[nodiscard]] GpuRun run_on_gpu(const gpu::Device& device, std::span<const sim::ValidationCase> cases,
                                const std::filesystem::path& directory, double budget_s,
                                const std::function<void(double fraction, const std::string& what)>& progress);

}  // namespace signsplit::tools
