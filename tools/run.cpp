// signsplit run: one FFN on real weights and real inputs.
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "signsplit/certificate.hpp"
#include "signsplit/npy.hpp"
#include "signsplit/reference.hpp"
#include "signsplit/weights.hpp"
#include "tools/auto_plan.hpp"
#include "tools/command.hpp"
#include "tools/cpu_options.hpp"
#include "tools/device_options.hpp"
#include "tools/host_profile.hpp"
#include "tools/json_output.hpp"
#include "tools/layer_input.hpp"
#include "tools/plan_options.hpp"
#include "tools/prefill.hpp"
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

/// What is known once the options and both files were read and found to fit together.
struct Job {
  Weights weights;
  FloatMatrix x;           ///< [tokens, D]
  index_t batch = 1;       ///< tokens per call; the last call may have fewer
  PlanChoice choice;
  cpu::Options cpu;
  std::unique_ptr<Executor> executor;
  sim::PlanMode planner = sim::PlanMode::estimate;
};

/// The same calls with cpu::Options::exact_mask.
struct ExactMask {
  double time_s = 0;
  Statistics statistics;
  std::vector<std::uint8_t> active;  ///< [tokens, F]
};

struct Outcome {
  std::string strategy;
  std::optional<Plan> plan;          ///< none for the reference
  double time_s = 0;
  Statistics statistics;
  std::vector<float> y;              ///< [tokens, D]
  std::vector<std::uint8_t> active;  ///< [tokens, F], or empty when nobody asked
  std::optional<ExactMask> exact;    ///< when asked for
  std::string how;                   ///< "avx512, 2 threads"
};

class Stopwatch {
 public:
  [[nodiscard]] double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
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

Result<Job> load(const RunOptions& options, const Context& context) {
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
  return Job{std::move(*weights), std::move(*x), tokens_per_call, *choice, *cpu, std::move(*executor), *planner};
}

std::span<const float> tokens_of(const Job& job, index_t first, index_t count) {
  const auto d = static_cast<std::size_t>(job.weights.d_model());
  return std::span(job.x.values).subspan(static_cast<std::size_t>(first) * d, static_cast<std::size_t>(count) * d);
}

/// auto: what the planner says of the tokens of the first call. A mask is known to our kernels only.
Result<sim::ChosenPlan> choose_plan(const Job& job, bool with_mask) {
  Result<sim::ChosenPlan> chosen = plan_for_layer(job.weights, tokens_of(job, 0, job.batch), job.batch, *job.executor, job.cpu,
                                                  job.planner, !with_mask);
  if (chosen && job.choice.plan.skip) chosen->plan.skip = true;
  return chosen;
}

/// What a run is asked to leave beside y.
struct Masks {
  bool plain = false, exact = false;
};

/// A plan, and where its calls leave what they give.
struct Calls {
  Executor& executor;
  const LoadedLayer& layer;
  const Plan& plan;
  std::unique_ptr<ExecutorFfn> ffn = {};
  index_t batch = 0;  ///< of ffn

  /// One call of `count` tokens; adds its seconds and its statistics.
  Status run(std::span<const float> x, index_t count, std::span<float> y, std::span<std::uint8_t> mask, double& time_s,
             Statistics& statistics) {
    if (batch != count) {
      auto created = executor.create(layer, plan, count);
      if (!created) return created.status();
      ffn = std::move(*created);
      batch = count;
    }
    const Stopwatch stopwatch;
    if (const Status status = ffn->run(x, y, mask); !status) return status;
    time_s += stopwatch.seconds();
    statistics += ffn->statistics();
    return {};
  }
};

/// All tokens, `batch` per call. Only the calls themselves are timed. With an exact mask every call is made twice, without it
/// and with it, the two taking turns in being first, after an untimed one: so that what the mask costs can be read off.
Result<Outcome> run_plan(const Job& job, const Plan& plan, Masks masks) {
  const index_t tokens = job.x.rows, d = job.weights.d_model(), f = job.weights.d_ff();
  Outcome outcome;
  outcome.strategy = std::string(to_string(plan.strategy));
  outcome.plan = plan;
  outcome.how = job.executor->description();
  outcome.y.resize(static_cast<std::size_t>(tokens * d));
  const auto pairs = static_cast<std::size_t>(tokens * f);
  if (masks.plain) outcome.active.resize(pairs);
  const auto layer = job.executor->load(job.weights);
  if (!layer) return layer.status();
  Calls plain{*job.executor, **layer, plan};
  cpu::Options with_mask = job.cpu;
  with_mask.exact_mask = true;
  const std::unique_ptr<Executor> exact_executor = cpu_executor(with_mask);
  Calls exact{*exact_executor, **layer, plan};
  if (masks.exact) outcome.exact.emplace().active.resize(pairs);

  const auto part = [&](auto& values, index_t first, index_t count, index_t width) {
    return std::span(values).subspan(static_cast<std::size_t>(first * width), static_cast<std::size_t>(count * width));
  };
  for (index_t first = 0; first < tokens; first += job.batch) {
    const index_t count = std::min(job.batch, tokens - first);
    const std::span<const float> x = tokens_of(job, first, count);
    const std::span<float> y = part(outcome.y, first, count, d);
    const std::span<std::uint8_t> mask = masks.plain ? part(outcome.active, first, count, f) : std::span<std::uint8_t>();
    const auto without = [&] { return plain.run(x, count, y, mask, outcome.time_s, outcome.statistics); };
    const auto with = [&] {
      ExactMask& e = *outcome.exact;
      return exact.run(x, count, y, part(e.active, first, count, f), e.time_s, e.statistics);
    };
    if (!masks.exact) {
      if (const Status status = without(); !status) return status;
      continue;
    }
    double untimed = 0;
    Statistics ignored;
    if (first == 0) {
      if (const Status status = plain.run(x, count, y, {}, untimed, ignored); !status) return status;
    }
    const bool swapped = first / job.batch % 2 != 0;
    if (const Status status = swapped ? with() : without(); !status) return status;
    if (const Status status = swapped ? without() : with(); !status) return status;
  }
  return outcome;
}

/// The exact reference, in blocks of tokens, so that its hidden values need not all be in memory.
Result<Outcome> run_reference(const Job& job, ReferenceMode mode, bool with_mask) {
  constexpr index_t kBlock = 64;
  Outcome outcome;
  outcome.strategy = mode == ReferenceMode::staged ? "reference" : "reference_composite";
  outcome.how = "exact sums, rounded once";
  for (index_t first = 0; first < job.x.rows; first += kBlock) {
    const index_t count = std::min(kBlock, job.x.rows - first);
    const Stopwatch stopwatch;
    const Result<ReferenceResult> block =
        reference(job.weights, tokens_of(job, first, count), count, mode, job.cpu.threads);
    if (!block) return block.status();
    outcome.time_s += stopwatch.seconds();
    outcome.y.insert(outcome.y.end(), block->y.begin(), block->y.end());
    for (const std::uint8_t open : block->active) outcome.statistics.active += open;
    if (with_mask) outcome.active.insert(outcome.active.end(), block->active.begin(), block->active.end());
  }
  return outcome;
}

/// All tokens through oneDNN, `batch` per call; the rest of the last call are zeros.
Result<Outcome> run_prefill(const Job& job, VendorFfn& ffn) {
  const auto d = static_cast<std::size_t>(job.weights.d_model()), block = static_cast<std::size_t>(job.batch) * d;
  const std::vector<float>& tokens = job.x.values;
  Outcome outcome;
  outcome.strategy = "onednn";
  outcome.how = ffn.description();
  outcome.y.resize(tokens.size());
  std::vector<float> x(block), y(block);
  for (std::size_t first = 0; first < tokens.size(); first += block) {
    const std::size_t count = std::min(block, tokens.size() - first);
    std::fill(std::copy_n(tokens.begin() + static_cast<std::ptrdiff_t>(first), count, x.begin()), x.end(), 0.0f);
    const Stopwatch stopwatch;
    if (const Status status = ffn.run(x, y); !status) return status;
    outcome.time_s += stopwatch.seconds();
    std::copy_n(y.begin(), count, outcome.y.begin() + static_cast<std::ptrdiff_t>(first));
  }
  return outcome;
}

Result<Outcome> run_job(const Job& job, Masks masks) {
  switch (job.choice.kind) {
    case PlanChoice::Kind::reference_staged: return run_reference(job, ReferenceMode::staged, masks.plain);
    case PlanChoice::Kind::reference_composite: return run_reference(job, ReferenceMode::composite, masks.plain);
    case PlanChoice::Kind::plan: return run_plan(job, job.choice.plan, masks);
    case PlanChoice::Kind::automatic: break;
  }
  const Result<sim::ChosenPlan> chosen = choose_plan(job, masks.plain || masks.exact);
  if (!chosen) return chosen.status();
  if (chosen->gemm) {
    if (const std::unique_ptr<VendorFfn> ffn = prefill_ffn(job.weights, job.batch, job.cpu.threads)) return run_prefill(job, *ffn);
  }
  return run_plan(job, chosen->plan, masks);
}

/// y, and the masks asked for: all, or none.
Status write_results(const Job& job, const Outcome& outcome, const RunOptions& options) {
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

void print_summary(const Job& job, const Outcome& outcome, const RunOptions& options, const Context& context) {
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
  const Result<Job> job = load(options, context);
  if (!job) return job.status();
  const Result<Outcome> outcome = run_job(*job, {.plain = !options.mask.empty(), .exact = !options.exact_mask.empty()});
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
                  "Instead of the file's: relu, relu2, identity, fatrelu:T, reglu, drelu")
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
