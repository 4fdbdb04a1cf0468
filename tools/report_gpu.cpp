#include "tools/report_gpu.hpp"

#include <fmt/format.h>

#include "signsplit/atomic_file.hpp"
#include "tools/device_options.hpp"
#include "tools/gpu_profile.hpp"
#include "tools/quantity_text.hpp"
#include "tools/report_sections.hpp"
#include "tools/report_text.hpp"
#include "tools/time_stamp.hpp"

namespace signsplit::tools {
namespace {

std::string device_name(const gpu::Device& device) { return fmt::format("cuda:{}", device.index); }

Status calibrate_and_measure(GpuRun& gpu, std::span<const sim::ValidationCase> cases, const std::filesystem::path& directory,
                             double budget_s, const std::function<void(double, const std::string&)>& progress) {
  const auto figures = gpu::measure_device(gpu.device.index);
  if (!figures) return figures.status();
  gpu.machine = gpu_profile(*figures, utc_now());
  if (Status status = write_file(directory / "gpu-machine.json", sim::to_json(gpu.machine)); !status) return status;
  const auto executor = make_executor({.device = device_name(gpu.device)}, {});
  if (!executor) return executor.status();
  ValidationOptions options;
  options.measure.executor = executor->get();
  options.measure.budget_s = budget_s;
  options.vendors = (*executor)->vendors(DType::bf16);
  gpu.predictions_file = "gpu-predictions.json";
  auto run = run_validation(cases, gpu.machine, directory / gpu.predictions_file, options, progress);
  if (!run) return run.status();
  gpu.run = std::move(*run);
  return {};
}

Html devices_table(const ReportData& data) {
  Table table("GPUs", {{"Device", false}, {"Compute capability"}, {"Multiprocessors"}, {"Memory"}});
  for (const gpu::Device& device : data.gpus) {
    table.row({text(fmt::format("{}: {}", device.index, device.name)),
               text(fmt::format("{}.{}", device.compute_major, device.compute_minor)),
               text(fmt::format("{}", device.multiprocessors)), text(capacity_text(static_cast<double>(device.memory_bytes)))});
  }
  return table.html();
}

/// Every plan that ran, and the vendor's library, which nobody predicts.
Html results_table(const ValidationGroup& group) {
  Table table(group.name, {{"Schedule", false}, {"Predicted"}, {"Measured"}, {"p10 – p90"}, {"Of read"}, {"Bits", false}});
  for (std::size_t i = 0; i < group.measured.cases.size(); ++i) {
    const CaseResult& one = group.measured.cases[i];
    if (!one.error.empty()) continue;
    const double read = group.measured.read_bandwidth_Bps;
    const double share = read > 0 ? static_cast<double>(one.bytes) / one.median_s / read : 0;
    table.row({text(one.label), text(i < group.predictions.size() ? time_text(group.predictions[i].prediction.time_s) : "-"),
               text(time_text(one.median_s)), text(time_text(one.p10_s) + " – " + time_text(one.p90_s)), text(percent_text(share)),
               text(one.same_bits_as_row_fused ? "same" : "other")});
  }
  return table.html();
}

}  // namespace

Result<ReportGpus> choose_gpu(const std::string& device) {
  ReportGpus gpus;
  const Result<std::vector<gpu::Device>> found = gpu::devices();
  if (found.ok()) gpus.found = *found;
  gpus.none = found.message();
  if (device.empty()) {
    if (!gpus.found.empty()) gpus.chosen = gpus.found.front();
    return gpus;
  }
  const Result<std::optional<int>> number = parse_device(device);
  if (!number) return number.status();
  if (!*number) return gpus;
  const Result<gpu::Device> chosen = gpu::find_device(**number);
  if (!chosen) return Status(chosen.status().code(), fmt::format("--device {}: {}", device, chosen.message()));
  gpus.chosen = *chosen;
  return gpus;
}

GpuRun run_on_gpu(const gpu::Device& device, std::span<const sim::ValidationCase> cases, const std::filesystem::path& directory,
                  double budget_s, const std::function<void(double, const std::string&)>& progress) {
  GpuRun gpu;
  gpu.device = device;
  gpu.error = calibrate_and_measure(gpu, cases, directory, budget_s, progress).message();
  return gpu;
}

Html gpu_section(const ReportData& data) {
  if (data.gpus.empty()) {
    return element("p", text("No GPU on this machine: " + (data.no_gpu.empty() ? "none was found" : data.no_gpu) + "."));
  }
  Html section = devices_table(data);
  if (!data.gpu_run) return section + element("p", text("None was measured: the report was made for the CPU alone."));
  const GpuRun& gpu = *data.gpu_run;
  if (!gpu.error.empty()) {
    return section + element("p", text(fmt::format("Nothing was measured on {}: {}.", device_name(gpu.device), gpu.error)), "missing");
  }
  section += element("p", text(fmt::format("Measured: {}, {}.", device_name(gpu.device), gpu.device.name)));
  for (const ValidationGroup& group : gpu.run.groups) section += results_table(group);
  for (const std::string& problem : gpu.run.problems) section += element("p", text(problem), "missing");
  return section + element("p", text(fmt::format("{} predictions, written to {} before they were measured: mean error {}. "
                                                 "Calls are chained, launched as a graph.",
                                                 gpu.run.summary.points, gpu.predictions_file, percent_text(gpu.run.summary.mape))));
}

}  // namespace signsplit::tools
