// signsplit calibrate: measures this machine and writes its profile.
#include "signsplit/sim/calibrate.hpp"

#include <filesystem>
#include <memory>

#include "signsplit/atomic_file.hpp"
#include "tools/command.hpp"
#include "tools/cpu_options.hpp"
#include "tools/device_options.hpp"
#include "tools/gpu_profile.hpp"
#include "tools/json_output.hpp"
#include "tools/progress.hpp"
#include "tools/quantity_text.hpp"
#include "tools/time_stamp.hpp"
#include "tools/trial.hpp"

namespace signsplit::tools {
namespace {

namespace fs = std::filesystem;

struct CalibrateCommand {
  DeviceOptions device;
  std::string output;
  bool quick = false;
  CpuOptions cpu;
};

/// Where the profile goes. The default place is in a directory of our own, which is made if it is not there.
Result<fs::path> profile_place(const CalibrateCommand& options) {
  if (!options.output.empty()) {
    if (const Status status = check_output(options.output, "--output"); !status) return status;
    return fs::path(options.output);
  }
  const fs::path file = sim::host_profile_path();
  std::error_code error;
  if (file.has_parent_path()) fs::create_directories(file.parent_path(), error);
  if (const Status status = check_output(file, "--output"); !status) return status;
  return file;
}

void print_summary(const sim::Machine& machine, const fs::path& file, const Context& context) {
  double best = 0;
  for (const sim::BandwidthPoint& point : machine.read_bandwidth) best = std::max(best, point.bytes_per_s);
  context.print("{}: {} core(s), {}, reads up to {} from cache\n", machine.title, machine.units, machine.isa, rate_text(best));
  context.print("profile    {}\n", file.string());
  if (file == sim::host_profile_path()) {
    context.print("           found by --hardware host from now on; `signsplit hardware host` shows it\n");
  } else {
    context.print("           use it with --hardware {}\n", file.string());
  }
}

/// The profile goes to --output only: a GPU has no default place, since --hardware knows the common ones by name.
Result<ExitCode> calibrate_gpu(const CalibrateCommand& options, int device, const Context& context) {
  const Result<gpu::Device> found = gpu::find_device(device);
  if (!found) return Status(found.status().code(), fmt::format("--device {}: {}", options.device.device, found.message()));
  if (options.output.empty()) return invalid_argument("--output: name a file for the profile of a GPU");
  if (const Status status = check_output(options.output, "--output"); !status) return status;
  Progress progress("calibrate");
  const auto figures = gpu::measure_device(device, options.quick, [&progress](int index, int total, const std::string& what) {
    progress.update(static_cast<double>(index) / std::max(total, 1), what);
  });
  progress.finish();
  if (!figures) return figures.status();
  const std::string profile = sim::to_json(gpu_profile(*figures, utc_now()));
  if (const Status status = write_file(options.output, profile); !status) return status;
  context.print("{}: {} multiprocessors, copies {}, reads {}\n", found->name, found->multiprocessors, rate_text(figures->copy_Bps),
                rate_text(figures->read_Bps));
  context.print("profile    {}\n           use it with --hardware, or validate --profile\n", options.output);
  if (const Status status = write_json(context, Json::parse(profile)); !status) return status;
  return ExitCode::done;
}

Result<ExitCode> calibrate(const CalibrateCommand& options, const Context& context) {
  const Result<std::optional<int>> device_number = parse_device(options.device.device);
  if (!device_number) return device_number.status();
  if (*device_number) return calibrate_gpu(options, **device_number, context);
  const Result<cpu::Options> cpu = resolve(options.cpu);
  if (!cpu) return cpu.status();
  const Result<fs::path> file = profile_place(options);
  if (!file) return file.status();

  Progress progress("calibrate");
  sim::CalibrateOptions request;
  request.threads = cpu->threads;
  request.isa = std::string(cpu::to_string(*cpu->isa));
  request.quick = options.quick;
  request.trial = trial_runner(*cpu->isa);
  request.progress = [&progress](int index, int total, const std::string& what) {
    progress.update(static_cast<double>(index) / std::max(total, 1), what);
  };
  const Result<sim::Machine> machine = sim::calibrate_host(request);
  progress.finish();
  if (!machine) return machine.status();
  const std::string profile = sim::to_json(*machine);
  if (const Status status = write_file(*file, profile); !status) return status;
  print_summary(*machine, *file, context);
  if (const Status status = write_json(context, Json::parse(profile)); !status) return status;
  return ExitCode::done;
}

}  // namespace

void add_calibrate(CLI::App& app, Context& context) {
  auto options = std::make_shared<CalibrateCommand>();
  CLI::App& command = add_command(
      app, "calibrate", "Measure this machine and write its profile (at most a minute)",
      "Measures read bandwidth against working set and threads, barriers, forking and joining, arithmetic rates, and the\n"
      "kernels on small layers, none of a shape that `validate` uses. Every number in the profile says where it comes\n"
      "from. Leave the machine alone meanwhile.\n"
      "\n"
      "Examples:\n"
      "  signsplit calibrate\n"
      "  signsplit calibrate --quick --threads 1 -o one-thread.json");
  command
      .add_option("-o,--output", options->output,
                  "Where the profile goes; default: where --hardware host finds it (" + sim::host_profile_path().string() + ")")
      ->type_name("FILE");
  command.add_flag("--quick", options->quick, "Half the repetitions");
  add_cpu_options(command, options->cpu);
  add_device_option(command, options->device);
  add_json_option(command, context);
  on_run(command, context, [options, &context] { return calibrate(*options, context); });
}

}  // namespace signsplit::tools
