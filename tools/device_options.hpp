// --device and what belongs to it: where plans run, and how a GPU runs them.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "signsplit/gpu.hpp"
#include "signsplit/status.hpp"
#include "tools/executor.hpp"

namespace signsplit::tools {

struct DeviceOptions {
  std::string device = "cpu", launch = "graph", stages = "0", timing = "chained";
  bool keep_in_l2 = false;
};

/// --device alone.
CLI::Option* add_device_option(CLI::App& command, DeviceOptions& options);
/// --launch, --stages, --keep-in-l2 and --timing: of GPUs only.
void add_gpu_options(CLI::App& command, DeviceOptions& options);

/// The number N of cuda:N ("cuda" is 0); empty for "cpu"; other names are invalid_argument.
[[nodiscard]] Result<std::optional<int>> parse_device(const std::string& text);

/// For "cpu" the CPU with these options; for cuda:N that device, or the one line that says why it cannot be used.
[[nodiscard]] Result<std::unique_ptr<Executor>> make_executor(const DeviceOptions& options, const cpu::Options& cpu);

}  // namespace signsplit::tools
