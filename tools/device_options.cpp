#include "tools/device_options.hpp"

#include <fmt/format.h>

#include "tools/gpu_executor.hpp"
#include "tools/problem_options.hpp"

namespace signsplit::tools {
namespace {

constexpr const char* kGpuGroup = "On a GPU";

Result<GpuSettings> gpu_settings(const DeviceOptions& options, int device) {
  GpuSettings settings;
  settings.options.device = device;
  settings.options.evict_first = !options.keep_in_l2;
  const std::optional<gpu::Launch> launch = gpu::parse_launch(options.launch);
  if (!launch) {
    return invalid_argument(
        fmt::format("--launch '{}' is not known; known are stream, graph, programmatic, cooperative", options.launch));
  }
  settings.options.launch = *launch;
  const std::optional<index_t> stages = parse_count(options.stages);
  if (!stages || *stages == 1 || *stages > 1024) {
    return invalid_argument(fmt::format("--stages '{}' must be 0 (as many as fit) or a whole number from 2", options.stages));
  }
  settings.options.stages = static_cast<int>(*stages);
  if (options.timing != "chained" && options.timing != "isolated") {
    return invalid_argument(fmt::format("--timing '{}' must be chained or isolated", options.timing));
  }
  settings.chained = options.timing == "chained";
  return settings;
}

}  // namespace

CLI::Option* add_device_option(CLI::App& command, DeviceOptions& options) {
  return command.add_option("--device", options.device, "cpu, or cuda:N")
      ->type_name("DEVICE")
      ->capture_default_str()
      ->group("The machine");
}

void add_gpu_options(CLI::App& command, DeviceOptions& options) {
  command
      .add_option("--launch", options.launch,
                  "How kernels are started: stream, graph, programmatic (dependent launches), cooperative")
      ->type_name("MODE")
      ->capture_default_str()
      ->group(kGpuGroup);
  command.add_option("--stages", options.stages, "Copies of weights in flight per block; 0: as many as fit")
      ->type_name("N")
      ->capture_default_str()
      ->group(kGpuGroup);
  command.add_flag("--keep-in-l2", options.keep_in_l2, "Do not mark weights to leave the L2 first")->group(kGpuGroup);
  command
      .add_option("--timing", options.timing,
                  "chained: calls on all layers of the rotation one behind the other; isolated: one call at a time")
      ->type_name("T")
      ->capture_default_str()
      ->group(kGpuGroup);
}

Result<std::optional<int>> parse_device(const std::string& text) {
  if (text == "cpu") return std::optional<int>();
  const std::string number = text == "cuda" ? "0" : text.rfind("cuda:", 0) == 0 ? text.substr(5) : std::string();
  const std::optional<index_t> index = parse_count(number);
  if (!index || *index > 1023) return invalid_argument(fmt::format("--device '{}' must be cpu or cuda:N", text));
  return std::optional<int>(static_cast<int>(*index));
}

Result<std::unique_ptr<Executor>> make_executor(const DeviceOptions& options, const cpu::Options& cpu) {
  const Result<std::optional<int>> device = parse_device(options.device);
  if (!device) return device.status();
  const Result<GpuSettings> settings = gpu_settings(options, device->value_or(0));
  if (!settings) return settings.status();
  if (!*device) return cpu_executor(cpu);
  auto executor = gpu_executor(*settings);
  if (!executor) return Status(executor.status().code(), fmt::format("--device {}: {}", options.device, executor.message()));
  return executor;
}

}  // namespace signsplit::tools
