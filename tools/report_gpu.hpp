// The report's part about GPUs: calibrate, predict, write the predictions down, measure.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>

#include "tools/report_data.hpp"

namespace signsplit::tools {

/// Writes gpu-machine.json and gpu-predictions.json into the directory. What goes wrong is in the run's `error`.
[[nodiscard]] GpuRun run_on_gpu(const gpu::Device& device, std::span<const sim::ValidationCase> cases,
                                const std::filesystem::path& directory, double budget_s,
                                const std::function<void(double fraction, const std::string& what)>& progress);

}  // namespace signsplit::tools
