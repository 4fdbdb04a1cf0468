// signsplit validate: predictions of shapes held out of calibration, written down first and then measured.
#include <filesystem>
#include <memory>

#include "signsplit/sim/machine.hpp"
#include "signsplit/sim/validation.hpp"
#include "tools/command.hpp"
#include "tools/cpu_options.hpp"
#include "tools/device_options.hpp"
#include "tools/host_profile.hpp"
#include "tools/json_output.hpp"
#include "tools/progress.hpp"
#include "tools/quantity_text.hpp"
#include "tools/trial.hpp"
#include "tools/validation_run.hpp"

namespace signsplit::tools {
namespace {

namespace fs = std::filesystem;

struct ValidateOptions {
  std::string suite = "quick", profile, predictions, keep, replay, probe = "on";
  double limit_s = 0;
  CpuOptions cpu;
  DeviceOptions device;
};

/// --out; else beside the kept measurements; else beside the JSON result; else beside the host's profile.
Result<fs::path> predictions_place(const ValidateOptions& options, const Context& context) {
  fs::path file = options.predictions;
  if (file.empty() && !options.keep.empty()) file = fs::path(options.keep).replace_extension(".predictions.json");
  if (file.empty() && !context.json_target.empty() && context.json_target != "-") {
    file = fs::path(context.json_target).replace_extension(".predictions.json");
  }
  if (file.empty()) {
    file = sim::host_profile_path().replace_filename("predictions.json");
    std::error_code error;
    if (file.has_parent_path()) fs::create_directories(file.parent_path(), error);
  }
  if (const Status status = check_output(file, "--out"); !status) return status;
  return file;
}

/// Lossless schedules whose bits differ from row_fused's on the layer that was measured. sign_split may differ.
int wrong_bits(const ValidationRun& run) {
  int wrong = 0;
  for (const ValidationGroup& group : run.groups) {
    for (const CaseResult& result : group.measured.cases) {
      const bool lossless = result.plan && result.plan->strategy != Strategy::sign_split;
      if (lossless && result.error.empty() && !result.same_bits_as_row_fused) ++wrong;
    }
  }
  return wrong;
}

void print_groups(std::span<const sim::ValidationPoint> points, const Context& context) {
  std::string group;
  for (const sim::ValidationPoint& p : points) {
    if (p.group != group) {
      group = p.group;
      context.print("\n{}\n  {:<32} {:>10}  {:^23} {:>10} {:>8}\n", group, "schedule", "predicted", "90 % interval",
                    "measured", "error");
    }
    const bool inside = p.measured_s >= p.low_s && p.measured_s <= p.high_s;
    context.print("  {:<32} {:>10}  {:>10} – {:<10} {:>10} {:>+6.0f} %{}\n", p.label, time_text(p.predicted_s),
                  time_text(p.low_s), time_text(p.high_s), time_text(p.measured_s),
                  100 * (p.predicted_s / p.measured_s - 1), inside ? "" : "  outside");
  }
}

void print_score(const Context& context, std::string_view name, double accuracy, double abstain, const std::string& mape) {
  context.print("  {:<24} {:>10} {:>10} {:>12}\n", name, percent_text(accuracy), percent_text(abstain), mape);
}

void print_summary(const ValidationRun& run, const Context& context) {
  const sim::ValidationSummary& s = run.summary;
  context.print("\n{} points in {} groups; {} groups decided\n", s.points, s.groups, s.decided);
  if (s.decided == 0) {
    context.print("in no group could both measuring and the simulator tell fused and unfused apart: `right` says nothing here\n");
  }
  context.print("  {:<24} {:>10} {:>10} {:>12}\n", "fused or unfused?", "right", "abstains", "mean error");
  print_score(context, "signsplit", s.decision_accuracy, s.abstain_rate, percent_text(s.mape));
  print_score(context, "roofline", s.naive.roofline.decision_accuracy, s.naive.roofline.abstain_rate,
              percent_text(s.naive.roofline_mape));
  print_score(context, "roofline + launch", s.naive.roofline_launch.decision_accuracy,
              s.naive.roofline_launch.abstain_rate, percent_text(s.naive.roofline_launch_mape));
  print_score(context, "always fuse", s.naive.always_fuse.decision_accuracy, s.naive.always_fuse.abstain_rate, "-");
  print_score(context, "never fuse", s.naive.never_fuse.decision_accuracy, s.naive.never_fuse.abstain_rate, "-");
  context.print("  {:<24} {:>10} {:>10} {:>12}\n", "any two schedules?", "right", "abstains", "");
  print_score(context, "signsplit", s.pair_decisions.decision_accuracy, s.pair_decisions.abstain_rate, "-");
  print_score(context, "roofline + launch", s.naive.roofline_launch_pairs.decision_accuracy, s.naive.roofline_launch_pairs.abstain_rate, "-");
  context.print("  where measuring can decide, signsplit abstains on {} of fused or unfused, on {} of any two schedules\n",
                percent_text(s.abstain_where_measurable), percent_text(s.pair_decisions.abstain_where_measurable));
  context.print("  {:<34} {:>7} {:>10} {:>10} {:>10}\n", "errors by schedule", "points", "mean", "signed", "worst");
  for (const sim::StrategyErrors& e : s.strategies) {
    context.print("  {:<34} {:>7} {:>10} {:>+8.1f} % {:>+8.1f} %\n", e.label, e.points, percent_text(e.mape), 100 * e.bias, 100 * e.worst);
  }
  context.print("  regret of the planner {} on average, {} at worst; of row_fused+skip always {}\n", percent_text(s.regret_mean),
                percent_text(s.regret_worst), percent_text(s.naive.regret_row_fused_skip));
  context.print("  95th percentile of the error {}; median error of the gap {}; {} of the measurements inside the 90 % "
                "interval\n",
                percent_text(s.p95_ape), time_text(s.gap_median_abs_s), percent_text(s.coverage_90));
  context.print("  mean error by the profile alone {}; with the read bandwidth measured beside the schedules {}\n",
                percent_text(run.profile_summary.mape), percent_text(run.same_run_summary.mape));
  context.print("  the machine was another one during {} of the turns, which do not count (mean error with them {}); {} measurement(s) made again, "
                "{} still mostly unsteady\n",
                percent_text(run.steadiness.turns_left_out), percent_text(run.all_turns_summary.mape), run.steadiness.repeated,
                run.steadiness.mostly_unsteady);
}

/// Old measurements, today's model.
Result<ExitCode> replay_file(const ValidateOptions& options, const Context& context) {
  const Result<Measurements> kept = read_measurements(options.replay);
  if (!kept) return kept.status();
  const Result<sim::Machine> machine = options.profile.empty() ? Result<sim::Machine>(kept->machine) : sim::find_machine(options.profile);
  if (!machine) return machine.status();
  ValidationRun run;
  run.points = replay(*kept, *machine);
  run.summary = sim::summarise(run.points, *machine);
  run.profile_summary = sim::summarise(replay(*kept, *machine, Knows::profile), *machine);
  run.same_run_summary = sim::summarise(replay(*kept, *machine, Knows::same_run), *machine);
  run.all_turns_summary = sim::summarise(replay(*kept, *machine, Knows::reading, TurnsOf::all), *machine);
  run.steadiness = steadiness_of(kept->groups);
  print_groups(run.points, context);
  print_summary(run, context);
  if (const Status status = write_json(context, validation_json(run)); !status) return status;
  return ExitCode::done;
}

Result<ExitCode> validate(const ValidateOptions& options, const Context& context) {
  if (!options.replay.empty()) return replay_file(options, context);
  const Result<cpu::Options> cpu = resolve(options.cpu);
  if (!cpu) return cpu.status();
  const Result<std::unique_ptr<Executor>> executor = make_executor(options.device, *cpu);
  if (!executor) return executor.status();
  const std::string profile = options.profile.empty() ? (*executor)->profile() : options.profile;
  const Result<std::vector<sim::ValidationCase>> suite = sim::validation_suite(options.suite);
  if (!suite) return invalid_argument("--suite: " + suite.message());
  const Result<sim::Machine> machine = sim::find_machine(profile);
  if (!machine) return machine.status();
  const Result<fs::path> predictions = predictions_place(options, context);
  if (!predictions) return predictions.status();

  ValidationOptions request;
  request.measure.executor = executor->get();
  request.suite = options.suite;
  request.keep = options.keep;
  request.limit_s = options.limit_s;
  request.measure.exact_reference = options.suite == "quick";  // of the larger suites it would be most of the time
  if (options.suite != "quick") request.measure.budget_s = 1.5;
  request.measure.tie_budget_s = 1.5;
  request.measure.threads = cpu->threads;
  request.measure.isa = cpu->isa;
  if (options.probe == "on") {
    Result<MachineProbe> probe = machine_probe(**executor, *machine);
    if (!probe) return probe.status();
    request.probe = std::move(*probe);
  }
  Progress progress("validate");
  const Result<ValidationRun> run =
      run_validation(*suite, *machine, *predictions, request,
                     [&progress](double fraction, const std::string& what) { progress.update(fraction, what); });
  progress.finish();
  if (!run) return run.status();

  if (profile == "host") note_uncalibrated_host(context);
  for (const std::string& problem : run->problems) context.note("{}", one_line(problem));
  if (run->pending > 0) {
    context.print("{} of {} problems measured: run the same command again to go on\n", run->groups.size() - run->pending, run->groups.size());
    return ExitCode::done;
  }
  const int wrong = wrong_bits(*run);
  if (wrong > 0) context.note("{} lossless case(s) did not give the bits of row_fused", wrong);
  print_groups(run->points, context);
  print_summary(*run, context);
  context.print("predictions, written before the first measurement: {}\n", predictions->string());
  if (const Status status = write_json(context, validation_json(*run)); !status) return status;
  return wrong == 0 && run->problems.empty() ? ExitCode::done : ExitCode::check_failed;
}

}  // namespace

void add_validate(CLI::App& app, Context& context) {
  auto options = std::make_shared<ValidateOptions>();
  CLI::App& command = add_command(
      app, "validate", "Predict, write the predictions down, measure, and say how wrong they were",
      "Measures shapes that calibration never saw. `right`: of the groups where measurement tells the best fused and the\n"
      "best unfused schedule apart, those whose winner was predicted. The naive predictors stand beside.\n"
      "Exit status 1 when a schedule could not run, or a lossless one gave other bits than row_fused.\n"
      "\n"
      "Examples:\n"
      "  signsplit calibrate && signsplit validate\n"
      "  signsplit validate --suite quick --threads 1 --json result.json");
  command.add_option("--suite", options->suite, "Which problems: quick, full (both held out of calibration), development (to tune the model on)")
      ->type_name("NAME")
      ->capture_default_str();
  command
      .add_option("--profile", options->profile, "The machine profile to predict with: a name, or a .json of `calibrate`; default: host or the GPU's name, or the one that a replay was measured with")
      ->type_name("FILE|NAME|host");
  command.add_option("--keep", options->keep, "Keep measurements in this file, problem by problem, and go on with those that it holds")
      ->type_name("FILE");
  command.add_option("--limit", options->limit_s, "With --keep: begin no problem after so many seconds; run again to go on")->type_name("S");
  command.add_option("--probe", options->probe, "Whether a tenth to a sixth of a second of probing before each problem scales the profile (CPU)")
      ->type_name("on|off")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  command.add_option("--replay", options->replay, "Measure nothing: predict what is measured in this file with today's model")
      ->type_name("FILE");
  command
      .add_option("--out", options->predictions,
                  "Where to keep the predictions, written before measuring; default: beside the JSON file, else beside the "
                  "host's profile")
      ->type_name("FILE");
  add_cpu_options(command, options->cpu);
  add_device_option(command, options->device);
  add_gpu_options(command, options->device);
  add_json_option(command, context);
  on_run(command, context, [options, &context] { return validate(*options, context); });
}

}  // namespace signsplit::tools
