// signsplit report: the main job. Calibrates, predicts, writes the predictions down, measures, and says how it went.
#include <omp.h>
#include <sys/utsname.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>

#include "signsplit/atomic_file.hpp"
#include "signsplit/models.hpp"
#include "signsplit/sim/calibrate.hpp"
#include "tools/command.hpp"
#include "tools/cpu_options.hpp"
#include "tools/device_options.hpp"
#include "tools/json_output.hpp"
#include "tools/progress.hpp"
#include "tools/quantity_text.hpp"
#include "tools/report_data.hpp"
#include "tools/report_findings.hpp"
#include "tools/report_gpu.hpp"
#include "tools/report_page.hpp"
#include "tools/report_real_layer.hpp"
#include "tools/sha256.hpp"
#include "tools/time_stamp.hpp"
#include "tools/trial.hpp"
#include "tools/vendor.hpp"

namespace signsplit::tools {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr index_t kRealTokens = 16;
constexpr std::uint64_t kSeed = 1;

struct ReportOptions {
  std::string out = "signsplit-report", profile, data;
  bool quick = false;
  CpuOptions cpu;
  DeviceOptions device{.device = ""};  // the CPU, and the first GPU
};

std::string file_text(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// `word` as a shell takes it literally.
std::string shell_word(const std::string& word) {
  const bool plain = !word.empty() && word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                                             "-_./=:,+@%") == std::string::npos;
  if (plain) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string command_line(const ReportOptions& options) {
  std::string line = "signsplit report --out " + shell_word(options.out);
  if (options.quick) line += " --quick";
  if (!options.profile.empty()) line += " --profile " + shell_word(options.profile);
  if (!options.data.empty()) line += " --data " + shell_word(options.data);
  if (options.cpu.threads != "0") line += " --threads " + shell_word(options.cpu.threads);
  if (!options.device.device.empty()) line += " --device " + shell_word(options.device.device);
  if (!options.cpu.isa.empty()) line += " --isa " + shell_word(options.cpu.isa);
  return line;
}

/// predictions.json once more, to which run_validation adds what it predicts just before each measurement.
constexpr const char* kPredictionsAsOfNow = "predictions-as-of-now.json";

Status prepare_directory(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (!fs::is_directory(directory)) {
    return invalid_argument(fmt::format("--out {}: no such directory can be made{}", directory.string(),
                                        error ? ": " + error.message() : ""));
  }
  for (const char* name : {"machine.json", "predictions.json", kPredictionsAsOfNow, "report.json", "index.html"}) {
    if (const Status status = check_output(directory / name, "--out"); !status) return status;
  }
  return {};
}

/// Where the shipped layer is: --data, the source tree, or the place beside an installed command.
fs::path data_directory(const ReportOptions& options) {
  if (!options.data.empty()) return options.data;
  std::error_code error;
  const fs::path source = SIGNSPLIT_SOURCE_DATA;
  if (fs::is_regular_file(source / "layer0-relu.safetensors", error)) return source;
  const fs::path command = fs::read_symlink("/proc/self/exe", error);
  return command.parent_path() / ".." / "share" / "signsplit" / "data";
}

/// The layer, or, where it is only the default place that has none, nothing and the reason.
Result<std::optional<RealInputs>> find_real_inputs(const ReportOptions& options, int threads, std::string& missing) {
  Result<RealInputs> inputs = load_real_inputs(data_directory(options), kRealTokens, threads);
  if (inputs.ok()) return std::optional<RealInputs>(std::move(inputs).value());
  if (!options.data.empty()) return inputs.status();
  missing = inputs.message();
  return std::optional<RealInputs>();
}

sim::ValidationCase model_case(const char* name, double active, sim::Residency residency) {
  const Model model = find_model(name).value();  // the names below are in the list
  const Problem problem{model.d_model, model.d_ff, 1, DType::bf16, model.activation, model.gated};
  return {problem, active, residency};
}

/// The real layer's shape and activity first; layers too large for caches are cold only.
std::vector<sim::ValidationCase> report_cases(const std::optional<RealInputs>& real, bool quick) {
  using sim::Residency;
  std::vector<sim::ValidationCase> cases;
  if (real) cases.push_back({real->weights.problem(1), real->active, Residency::warm});
  cases.push_back(model_case("opt-125m", 0.1, Residency::warm));
  cases.push_back(model_case("opt-125m", 0.1, Residency::cold));
  cases.push_back(model_case("opt-1.3b", 0.1, Residency::cold));
  cases.push_back(model_case("sparselm-2b", 0.1, Residency::cold));
  if (quick) return cases;
  cases.push_back(model_case("opt-125m", 0.5, Residency::warm));
  cases.push_back(model_case("opt-125m", 0.5, Residency::cold));
  cases.push_back(model_case("opt-1.3b", 0.5, Residency::cold));
  cases.push_back(model_case("sparselm-2b", 0.5, Residency::cold));
  return cases;
}

/// What of the whole job each step takes, for the progress bar.
struct Share {
  double begin, end;
  [[nodiscard]] double at(double fraction) const { return begin + (end - begin) * std::clamp(fraction, 0.0, 1.0); }
};
constexpr Share kCalibration{0.0, 0.25}, kMeasurement{0.25, 0.85}, kRealLayer{0.85, 0.90}, kGpu{0.90, 0.98};

/// One run of the command.
class Reporter {
 public:
  Reporter(const ReportOptions& options, const Context& context, cpu::Options cpu)
      : options_(options), context_(context), cpu_(cpu), directory_(options.out), progress_("report") {}

  Result<ExitCode> run();

 private:
  Status get_machine();
  Status measure();
  Status keep_predictions();
  void check_bytes();
  void run_real();
  void run_gpu();
  void describe_run();
  Status write_results();
  [[nodiscard]] bool promises_kept() const;

  const ReportOptions& options_;
  const Context& context_;
  cpu::Options cpu_;
  fs::path directory_;
  Progress progress_;
  Clock::time_point start_ = Clock::now();
  ReportData data_;
  std::optional<RealInputs> real_;
  std::optional<gpu::Device> gpu_;
};

Status Reporter::get_machine() {
  if (!options_.profile.empty()) {
    Result<sim::Machine> machine = sim::find_machine(options_.profile);
    if (!machine) return machine.status();
    data_.machine = std::move(*machine);
    data_.machine_origin = "read from " + options_.profile;
  } else {
    sim::CalibrateOptions request;
    request.threads = data_.threads;
    request.isa = data_.isa;
    request.quick = options_.quick;
    request.trial = trial_runner(*cpu_.isa);
    request.progress = [this](int index, int total, const std::string& what) {
      progress_.update(kCalibration.at(static_cast<double>(index) / std::max(total, 1)), "calibrating: " + what);
    };
    Result<sim::Machine> machine = sim::calibrate_host(request);
    if (!machine) return machine.status();
    data_.machine = std::move(*machine);
    data_.machine_origin = "calibrated in this run";
  }
  return write_file(directory_ / "machine.json", sim::to_json(data_.machine));
}

/// The first word from run_validation comes when the predictions are on disk and nothing was measured yet: what is there then is
/// kept apart, as a file that nothing is added to.
Status Reporter::keep_predictions() {
  if (!data_.predictions_sha256.empty()) return {};
  const std::string predictions = file_text(directory_ / kPredictionsAsOfNow);
  data_.predictions_sha256 = sha256_hex(predictions);
  data_.predictions_written = utc_now();
  return write_file(directory_ / data_.predictions_file, predictions);
}

Status Reporter::measure() {
  ValidationOptions request;
  request.measure.threads = data_.threads;
  request.measure.isa = cpu_.isa;
  request.measure.seed = kSeed;
  request.measure.budget_s = options_.quick ? 2.5 : 9.0;
  request.vendors = vendor_names();
  Result<MachineProbe> probe = machine_probe(*cpu_executor({.threads = data_.threads, .isa = cpu_.isa}), data_.machine);
  if (!probe) return probe.status();
  request.probe = std::move(*probe);
  data_.predictions_file = "predictions.json";
  Status kept;
  Result<ValidationRun> run = run_validation(report_cases(real_, options_.quick), data_.machine, directory_ / kPredictionsAsOfNow,
                                             request, [&](double fraction, const std::string& what) {
                                               if (const Status status = keep_predictions(); !status) kept = status;
                                               progress_.update(kMeasurement.at(fraction), "measuring: " + what);
                                             });
  if (!kept) return kept;
  if (!run) return run.status();
  data_.run = std::move(*run);
  return {};
}

/// Counts every run again from what its data decided.
void Reporter::check_bytes() {
  for (const ValidationGroup& group : data_.run.groups) {
    for (const CaseResult& result : group.measured.cases) {
      const sim::Prediction* prediction = prediction_of(group, result);
      if (!ran(result) || prediction == nullptr) continue;
      const sim::Activity activity = sim::activity_from(result.statistics, *result.plan, group.request.problem);
      data_.bytes.push_back({group.name, result.label, prediction->bytes, result.statistics,
                             sim::count(*result.plan, group.request.problem, activity)});
    }
  }
}

void Reporter::run_real() {
  if (!real_) return;
  const ValidationGroup* predicted = nullptr;
  for (const ValidationGroup& group : data_.run.groups) {
    if (group.request.problem == real_->weights.problem(1) && group.request.active == real_->active) predicted = &group;
  }
  data_.real_layer = run_real_layer(*real_, cpu_, options_.quick ? 1.0 : 5.0, predicted,
                                    [this](double fraction, const std::string& what) { progress_.update(kRealLayer.at(fraction), what); });
}

/// What the CPU measures on cold layers, on the GPU that was chosen.
void Reporter::run_gpu() {
  if (!gpu_) return;
  std::vector<sim::ValidationCase> cases = report_cases({}, options_.quick);
  std::erase_if(cases, [](const sim::ValidationCase& request) { return request.residency == sim::Residency::warm; });
  data_.gpu_run = run_on_gpu(*gpu_, cases, directory_, options_.quick ? 1.0 : 3.0,
                             [this](double fraction, const std::string& what) {
                               progress_.update(kGpu.at(fraction), "measuring the GPU: " + what);
                             });
}

void Reporter::describe_run() {
  data_.version = SIGNSPLIT_VERSION;
  data_.command = command_line(options_);
  data_.quick = options_.quick;
  data_.seed = kSeed;
  utsname system{};
  if (::uname(&system) == 0) data_.environment.emplace_back("System", fmt::format("{} {}, {}", system.sysname, system.release, system.machine));
#if defined(__clang__)
  data_.environment.emplace_back("Compiler", "clang " __clang_version__);
#else
  data_.environment.emplace_back("Compiler", "gcc " __VERSION__);
#endif
  for (const ValidationGroup& group : data_.run.groups) {
    for (const CaseResult& result : group.measured.cases) {
      if (result.plan || result.detail.empty()) continue;
      data_.environment.emplace_back("Vendor baseline " + result.label, result.detail);
      return;
    }
  }
  data_.environment.emplace_back("Vendor baseline", "none in this build");
}

Status Reporter::write_results() {
  progress_.update(0.98, "drawing the page");
  data_.finished = utc_now();
  data_.duration_s = std::chrono::duration<double>(Clock::now() - start_).count();
  const Json json = report_json(data_);
  Plotter plotter;
  if (const Status status = write_file(directory_ / "report.json", json_text(json)); !status) return status;
  if (const Status status = write_file(directory_ / "index.html", report_page(data_, plotter)); !status) return status;
  progress_.finish();
  return write_json(context_, json);
}

/// Same bits where they are promised; the real layer inside its bounds, with the exact active set; every byte accounted for.
bool Reporter::promises_kept() const {
  const auto kept = [](const Plan& plan, bool same_bits) { return plan.strategy == Strategy::sign_split || same_bits; };
  for (const ValidationRun* run : {&data_.run, data_.gpu_run ? &data_.gpu_run->run : nullptr}) {
    if (run == nullptr) continue;
    for (const ValidationGroup& group : run->groups) {
      for (const CaseResult& result : group.measured.cases) {
        if (ran(result) && result.plan && !kept(*result.plan, result.same_bits_as_row_fused)) return false;
      }
    }
  }
  if (!std::all_of(data_.bytes.begin(), data_.bytes.end(), [](const ByteCheck& check) { return check.equal(); })) return false;
  if (!data_.real_layer) return true;
  return std::all_of(data_.real_layer->cases.begin(), data_.real_layer->cases.end(), [&](const RealLayerCase& result) {
    return result.error.empty() && kept(result.plan, result.same_bits_as_row_fused) && result.within_bound && result.active_set_exact;
  });
}

Result<ExitCode> Reporter::run() {
  data_.started = utc_now();
  data_.threads = cpu_.threads > 0 ? cpu_.threads : omp_get_max_threads();
  data_.isa = std::string(cpu::to_string(*cpu_.isa));
  Result<ReportGpus> gpus = choose_gpu(options_.device.device);
  if (!gpus) return gpus.status();
  data_.gpus = std::move(gpus->found);
  data_.no_gpu = std::move(gpus->none);
  gpu_ = std::move(gpus->chosen);
  if (const Status status = prepare_directory(directory_); !status) return status;
  Result<std::optional<RealInputs>> real = find_real_inputs(options_, data_.threads, data_.real_layer_missing);
  if (!real) return real.status();
  real_ = std::move(*real);
  if (const Status status = get_machine(); !status) return status;
  if (const Status status = measure(); !status) return status;
  check_bytes();
  run_real();
  run_gpu();
  describe_run();
  if (const Status status = write_results(); !status) return status;

  if (sha256_hex(file_text(directory_ / data_.predictions_file)) != data_.predictions_sha256) {
    return io_error((directory_ / data_.predictions_file).string() + ": was changed while the report was measuring");
  }
  const sim::ValidationSummary& summary = data_.run.summary;
  context_.print("{} predictions, mean error {}; {} of the measurements inside the predicted 90 % interval\n", summary.points,
                 percent_text(summary.mape), percent_text(summary.coverage_90));
  for (const std::string& problem : data_.run.problems) context_.note("{}", one_line(problem));
  const bool kept = promises_kept();
  if (!kept) context_.note("a schedule broke the exactness contract, or its bytes were not those counted: see the page");
  context_.print("{}\n", (directory_ / "index.html").string());
  return kept ? ExitCode::done : ExitCode::check_failed;
}

}  // namespace

void add_report(CLI::App& app, Context& context) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App& command = add_command(
      app, "report", "The whole story of this machine: calibrate, predict, measure, and write a page about it (minutes)",
      "Writes into DIR: machine.json (the calibrated profile), predictions.json (before anything is measured),\n"
      "predictions-as-of-now.json (the same, with what was predicted anew just before each measurement), report.json and\n"
      "index.html (self-contained); with a GPU also gpu-machine.json and gpu-predictions.json. Leave the machine alone\n"
      "meanwhile. Exit status 1 when a schedule broke the exactness contract; wrong predictions are no failure, they are what\n"
      "the page is about.\n"
      "\n"
      "Examples:\n"
      "  signsplit report\n"
      "  signsplit report --quick --out /tmp/report\n"
      "  signsplit report --device cuda:1\n"
      "  signsplit report --profile signsplit-report/machine.json --threads 1");
  command.add_option("--out", options->out, "Directory of the results, made if it is not there")->type_name("DIR")->capture_default_str();
  command.add_flag("--quick", options->quick, "Fewer cases and shorter measurements: about a minute");
  command.add_option("--profile", options->profile, "Predict with this profile (a .json of `calibrate`, or host) instead of calibrating")
      ->type_name("FILE|host");
  command.add_option("--data", options->data, "Directory of layer0-relu.safetensors and layer0-x.npy; default: the shipped one")
      ->type_name("DIR");
  add_device_option(command, options->device)
      ->description("cuda:N: the CPU, and that GPU; cpu: the CPU alone. Default: the CPU, and the first GPU where there is one");
  add_cpu_options(command, options->cpu);
  add_json_option(command, context);
  on_run(command, context, [options, &context]() -> Result<ExitCode> {
    const Result<cpu::Options> cpu = resolve(options->cpu);
    if (!cpu) return cpu.status();
    return Reporter(*options, context, *cpu).run();
  });
}

}  // namespace signsplit::tools
