// signsplit run: one FFN on real weights and real inputs.
#include <algorithm>
#include <filesystem>
#include <optional>
#include <vector>

#include "signsplit/certificate.hpp"
#include "tools/auto_plan.hpp"
#include "tools/command.hpp"
#include "tools/cpu_options.hpp"
#include "tools/device_options.hpp"
#include "tools/host_profile.hpp"
#include "tools/json_output.hpp"
#include "tools/layer_input.hpp"
#include "tools/layer_run.hpp"
#include "tools/plan_options.hpp"
#include "tools/problem_options.hpp"
#include "tools/quantity_text.hpp"

namespace signsplit::tools {
namespace {

namespace fs = std::filesystem;

struct RunOptions {
  std::string weights, input, output, mask, exact_mask, activation;
  std::string batch = "1", planner = "estimate";
  PlanOptions plan;
  CpuOptions cpu;
  DeviceOptions device;
};

fs::path resolved(const fs::path& file) {
  std::error_code error;
  fs::path path = fs::weakly_canonical(fs::absolute(file, error), error);  // made absolute first: "y.npy" and "./y.npy"
  return error ? file : path;
}

/// The outputs can be written, and none of them would replace an input or another output.
Status check_files(const RunOptions& options, const Context& context) {
  struct Named {
    std::string_view option;
    std::string file;
  };
  std::vector<Named> outputs{{"--output", options.output}};
  if (!options.mask.empty()) outputs.push_back({"--mask", options.mask});
  if (!options.exact_mask.empty()) outputs.push_back({"--exact-mask", options.exact_mask});
  std::vector<Named> seen{{"--weights", options.weights}, {"--input", options.input}};
  for (const Named& output : outputs) {
    if (const Status status = check_output(output.file, output.option); !status) return status;
  }
  if (!context.json_target.empty() && context.json_target != "-") outputs.push_back({"--json", context.json_target});
  for (const Named& output : outputs) {
    for (const Named& other : seen) {
      if (resolved(output.file) == resolved(other.file)) {
        return invalid_argument(fmt::format("{} and {} name the same file {}", output.option, other.option, output.file));
      }
    }
    seen.push_back(output);
  }
  return {};
}

/// --exact-mask: our kernels settle signs, and those of the CPU only.
Status check_exact_mask(const RunOptions& options, const PlanChoice& choice, const Executor& executor) {
  if (options.exact_mask.empty()) return {};
  if (executor.device() != "cpu") return invalid_argument(fmt::format("--exact-mask needs --device cpu (got {})", executor.device()));
  if (choice.kind == PlanChoice::Kind::plan || choice.kind == PlanChoice::Kind::automatic) return {};
  return invalid_argument(fmt::format("--exact-mask goes with a schedule: the mask of --strategy {} is exact by itself, see --mask",
                                      options.plan.strategy));
}

Result<LayerJob> load(const RunOptions& options, const Context& context) {
  const Result<cpu::Options> cpu = resolve(options.cpu);
  if (!cpu) return cpu.status();
  Result<std::unique_ptr<Executor>> executor = make_executor(options.device, *cpu);
  if (!executor) return executor.status();
  const Result<index_t> batch = parse_extent("--batch", options.batch);
  if (!batch) return batch.status();
  std::optional<ParsedActivation> activation;
  if (!options.activation.empty()) {
    const Result<ParsedActivation> parsed = parse_activation_option(options.activation);
    if (!parsed) return parsed.status();
    activation = *parsed;
  }
  if (const Status status = check_files(options, context); !status) return status;
  Result<Weights> weights = load_weights(options.weights, activation);
  if (!weights) return weights.status();
  Result<FloatMatrix> x = read_matrix(options.input);
  if (!x) return x.status();
  if (const Status status = check_input(*x, options.input, *weights, options.weights); !status) return status;
  const index_t tokens_per_call = std::min(*batch, x->rows);
  const Result<PlanChoice> choice = resolve(options.plan, weights->problem(tokens_per_call));
  if (!choice) return choice.status();
  if (const Status status = check_exact_mask(options, *choice, **executor); !status) return status;
  const Result<sim::PlanMode> planner = parse_planner(options.planner);
  if (!planner) return planner.status();
  const bool restores = choice->kind == PlanChoice::Kind::plan && choice->plan.placement == Placement::residual;
  if (restores && (*executor)->device() == "cpu") {
    if (const Status status = weights->give_up_first_matrix(format_of(choice->plan)); !status) return status;
  }
  return LayerJob{std::move(*weights), std::move(*x), tokens_per_call, *choice, *cpu, std::move(*executor), *planner};
}

/// y, and the masks asked for: all, or none.
Status write_results(const LayerJob& job, const LayerRun& outcome, const RunOptions& options) {
  std::vector<std::string> written;
  const auto write = [&](const std::string& file, std::span<const float> values, index_t columns) {
    const Status status = write_npy(file, values, job.x.rows, columns);
    if (status) written.push_back(file);
    return status;
  };
  const auto write_mask = [&](const std::string& file, const std::vector<std::uint8_t>& active) {
    return write(file, std::vector<float>(active.begin(), active.end()), job.weights.d_ff());
  };
  Status status = write(options.output, outcome.y, job.weights.d_model());
  if (status && !options.mask.empty()) status = write_mask(options.mask, outcome.active);
  if (status && outcome.exact) status = write_mask(options.exact_mask, outcome.exact->active);
  std::error_code ignored;
  for (const std::string& file : written) {
    if (!status) fs::remove(file, ignored);
  }
  return status;
}

void print_summary(const LayerJob& job, const LayerRun& outcome, const RunOptions& options, const Context& context) {
  const Statistics& s = outcome.statistics;
  const index_t tokens = job.x.rows, calls = ceil_div(tokens, job.batch);
  const auto pairs = static_cast<double>(tokens * job.weights.d_ff());
  const auto read = static_cast<double>(weight_bytes(s));
  context.print("layer      {}: {}, {} token(s) in {} call(s)\n", options.weights, describe(job.weights.problem(job.batch)),
                tokens, calls);
  context.print("schedule   {} ({}{})\n", outcome.plan ? label(*outcome.plan) : outcome.strategy, outcome.how,
                job.choice.kind == PlanChoice::Kind::automatic ? ", chosen by auto" : "");
  context.print("time       {}, {} per call\n", time_text(outcome.time_s),
                time_text(outcome.time_s / static_cast<double>(calls)));
  if (outcome.plan) {
    context.print("weights    {} read, {}\n", bytes_text(read), rate_text(read / outcome.time_s));
  }
  if (!job.weights.has_first_matrix()) {
    context.print("memory     {}, plane and residual in place of the first matrix\n",
                  bytes_text(static_cast<double>(job.weights.stored_bytes())));
  }
  if (outcome.strategy == "onednn") {
    context.print("active     not counted: not our kernels, nor the bits of our plans");
  } else {
    context.print("active     {} of the hidden units", percent_text(static_cast<double>(s.active) / pairs));
  }
  if (outcome.plan && outcome.plan->strategy == Strategy::sign_split) {
    context.print("; {} row(s) of W2 repaired, {} row(s) of W1 redone, {} sign(s) settled exactly", s.repaired, s.redone,
                  s.rechecked);
  }
  context.print("\noutput     {} [{}, {}] f32\n", options.output, tokens, job.weights.d_model());
  if (!options.mask.empty()) context.print("mask       {} [{}, {}] f32\n", options.mask, tokens, job.weights.d_ff());
  if (outcome.exact) {
    context.print("exact mask {} [{}, {}] f32; {} with it, {:+.1f} %; {} sign(s) settled exactly\n", options.exact_mask, tokens,
                  job.weights.d_ff(), time_text(outcome.exact->time_s), 100.0 * (outcome.exact->time_s / outcome.time_s - 1.0),
                  outcome.exact->statistics.rechecked);
  }
}

Result<ExitCode> run(const RunOptions& options, const Context& context) {
  const Result<LayerJob> job = load(options, context);
  if (!job) return job.status();
  const Result<LayerRun> outcome = run_layer(*job, {.plain = !options.mask.empty(), .exact = !options.exact_mask.empty()});
  if (!outcome) return outcome.status();
  if (const Status status = write_results(*job, *outcome, options); !status) return status;
  print_summary(*job, *outcome, options, context);
  if (job->choice.kind == PlanChoice::Kind::automatic) note_uncalibrated_host(context);
  Json document{{"strategy", outcome->strategy},
                {"plan", outcome->plan ? plan_json(*outcome->plan) : Json(nullptr)},
                {"time_s", outcome->time_s},
                {"stats", statistics_json(outcome->statistics)}};
  if (outcome->exact) {
    document["exact_mask_s"] = outcome->exact->time_s;
    document["exact_mask_stats"] = statistics_json(outcome->exact->statistics);
  }
  if (const Status status = write_json(context, document); !status) return status;
  return ExitCode::done;
}

}  // namespace

void add_run(CLI::App& app, Context& context) {
  auto options = std::make_shared<RunOptions>();
  CLI::App& command = add_command(
      app, "run", "Run one FFN layer: y = W2·act(W1·x + b1) + b2, gated too",
      "Files:\n"
      "  weights  safetensors with up.weight [F,D], down.weight [D,F], optional gate.weight [F,D], up.bias [F],\n"
      "           gate.bias [F], down.bias [D]; metadata `activation`\n"
      "  input    .npy [N,D] f32 (or safetensors); output .npy [N,D] f32, written whole or not at all\n"
      "\n"
      "The same plan gives the same bits with any instruction set and number of threads; unfused, row_fused and --skip\n"
      "give the same bits among each other. `auto` lets the simulator choose for this machine (see `signsplit calibrate`).\n"
      "`reference` rounds z, h and y once each; `reference_composite` rounds the exact result once.\n"
      "The time has the first call in it, which wakes threads and touches memory: to compare schedules use `bench`.\n"
      "\n"
      "Examples:\n"
      "  signsplit run --weights data/layer0-relu.safetensors --input data/layer0-x.npy --output y.npy\n"
      "  signsplit run --weights w.safetensors --input x.npy --output y.npy --strategy sign_split --variant streams\n"
      "  signsplit run --weights w.safetensors --input x.npy --output exact.npy --strategy reference_composite --json -");
  command.add_option("--weights", options->weights, "The layer, safetensors")->type_name("FILE")->required();
  command.add_option("--input", options->input, "Tokens [N, D], .npy f32 or safetensors")->type_name("FILE")->required();
  command.add_option("--output", options->output, "Where y [N, D] goes, .npy f32")->type_name("FILE")->required();
  command.add_option("--mask", options->mask, "Where to write which units were active, .npy f32 [N, F] of 0 and 1")
      ->type_name("FILE");
  command
      .add_option("--exact-mask", options->exact_mask,
                  "As --mask, in real numbers: signs that f32 cannot settle are settled exactly. y stays as it is. Every call is "
                  "made twice, without and with it; --json tells both times (time_s, exact_mask_s)")
      ->type_name("FILE");
  command
      .add_option("--activation", options->activation,
                  fmt::format("Instead of the file's: {}", kActivationNames))
      ->type_name("A");
  command.add_option("--batch", options->batch, "Tokens per call")->type_name("B")->capture_default_str();
  add_plan_options(command, options->plan);
  add_planner_option(command, options->planner);
  add_cpu_options(command, options->cpu);
  add_device_option(command, options->device);
  add_gpu_options(command, options->device);
  add_json_option(command, context);
  on_run(command, context, [options, &context] { return run(*options, context); });
}

}  // namespace signsplit::tools
