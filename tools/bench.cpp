// signsplit bench: every schedule and every vendor baseline on one layer, interleaved, beside the read bandwidth.
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <memory>
#include <vector>

#include "signsplit/reference.hpp"
#include "tools/auto_plan.hpp"
#include "tools/command.hpp"
#include "tools/cpu_options.hpp"
#include "tools/device_options.hpp"
#include "tools/host_profile.hpp"
#include "tools/json_output.hpp"
#include "tools/measure.hpp"
#include "tools/prefill.hpp"
#include "tools/problem_options.hpp"
#include "tools/progress.hpp"
#include "tools/quantity_text.hpp"

namespace signsplit::tools {
namespace {

struct BenchOptions {
  ProblemOptions problem;
  CpuOptions cpu;
  DeviceOptions device;
  std::string residency = "cold", rotation, budget = "10", seed = "1", only;
  bool exact_mask = false;
};

struct Bench {
  ProblemChoice choice;
  std::unique_ptr<Executor> executor;
  MeasureOptions measure;
  std::vector<CaseRequest> cases;
  Result<sim::ChosenPlan> automatic;  // what `auto` runs, or why there is no such case
};

constexpr std::string_view kAuto = "auto";
/// Tokens from which on oneDNN's f32 matrix products are a case by themselves: half of the least batch that auto gives to them.
constexpr index_t kPrefillShownFrom = 8;

Result<double> parse_budget(const std::string& text) {
  double seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc{} || end != text.data() + text.size() || !(seconds >= 0 && seconds <= 86400)) {
    return invalid_argument(fmt::format("--budget '{}' must be seconds between 0 and 86400", text));
  }
  return seconds;
}

/// Bytes of layers that take turns. Through twice the last-level cache, which is what makes a call cold at all, a part of a layer is
/// still in a cache when it comes round again, and of it a vendor's case before leaves less: the case behind it took 2 to 8 % longer.
/// Through 1 GiB it does not. In little memory less, since vendors have copies of their own and layers certificates.
Result<double> rotation_bytes(const std::string& text, const Executor& executor) {
  constexpr double mib = 1024.0 * 1024.0, most_mib = 1024.0 * 1024.0;
  if (!text.empty()) {
    if (executor.device() != "cpu") return invalid_argument("--rotation is for the CPU");
    const std::optional<index_t> number = parse_count(text);
    if (!number || *number < 1 || static_cast<double>(*number) > most_mib) {
      return invalid_argument(fmt::format("--rotation '{}' must be a whole number of MiB between 1 and {:.0f}", text, most_mib));
    }
    return static_cast<double>(*number) * mib;
  }
  if (executor.device() != "cpu") return 0.0;
  return std::max(executor.rotation_bytes(), std::min(1024 * mib, executor.memory_left_bytes() / 4));
}

Result<std::uint64_t> parse_seed(const std::string& text) {
  const std::optional<index_t> seed = parse_count(text);
  if (!seed) return invalid_argument(fmt::format("--seed '{}' must be a whole number", text));
  return static_cast<std::uint64_t>(*seed);
}

/// sign_split: one case for each variant and repair; with skip only the selective repairs and telescoping, because a
/// repair that goes over every row leaves nothing to skip.
bool worth_timing(const Plan& plan) {
  return plan.strategy != Strategy::sign_split || !plan.skip || plan.repair == Repair::selective ||
         plan.variant == Variant::telescoping;
}

std::vector<CaseRequest> all_cases(const Problem& problem, const Executor& executor) {
  std::vector<CaseRequest> cases;
  for (const Plan& plan : default_plans(problem)) {
    if (worth_timing(plan)) cases.push_back({executor.suited(plan, problem), {}});
  }
  Plan restored = default_plan(problem, Strategy::certified);
  restored.placement = Placement::residual;
  if (validate(restored, problem).ok() && executor.device() == "cpu") cases.push_back({restored, {}});
  for (const std::string& vendor : executor.vendors(problem.dtype)) cases.push_back({std::nullopt, vendor});
  const bool shows_prefill = executor.device() == "cpu" && can_prefill(problem) && problem.batch >= kPrefillShownFrom;
  if (shows_prefill && problem.dtype != DType::f32) cases.push_back({.vendor = std::string(kOneDnnF32)});
  return cases;
}

/// The planner's plan, or the matrix products that it prefers.
CaseRequest auto_case(const sim::ChosenPlan& chosen) {
  if (chosen.gemm) return {.vendor = std::string(kOneDnnF32), .name = std::string(kAuto)};
  return {.plan = chosen.plan, .name = std::string(kAuto)};
}

/// Those named in a list with commas between; all for an empty one.
Result<std::vector<CaseRequest>> chosen_cases(std::vector<CaseRequest> all, const std::string& only) {
  if (only.empty()) return all;
  std::vector<CaseRequest> chosen;
  for (std::size_t begin = 0; begin <= only.size();) {
    const std::size_t end = std::min(only.find(',', begin), only.size());
    const std::string name = only.substr(begin, end - begin);
    const auto found = std::find_if(all.begin(), all.end(), [&](const CaseRequest& request) { return label_of(request) == name; });
    if (found == all.end()) {
      std::string known;
      for (const CaseRequest& request : all) known += (known.empty() ? "" : ", ") + label_of(request);
      return invalid_argument(fmt::format("--only '{}': no case is called '{}'; the cases are {}", only, name, known));
    }
    chosen.push_back(*found);
    begin = end + 1;
  }
  return chosen;
}

/// Every lossless plan but auto's once more, with the exact mask, right behind itself. sign_split's masks are exact as they are.
std::vector<CaseRequest> with_exact_masks(const std::vector<CaseRequest>& cases) {
  std::vector<CaseRequest> both;
  for (const CaseRequest& one : cases) {
    both.push_back(one);
    if (!one.plan || one.plan->strategy == Strategy::sign_split || one.name == kAuto) continue;
    both.push_back(one);
    both.back().exact_mask = true;
  }
  return both;
}

Result<Bench> resolve_bench(const BenchOptions& options) {
  const auto choice = resolve(options.problem);
  if (!choice) return choice.status();
  const auto cpu = resolve(options.cpu);
  if (!cpu) return cpu.status();
  auto executor = make_executor(options.device, *cpu);
  if (!executor) return executor.status();
  const auto residency = parse_residency(options.residency);
  if (!residency) return residency.status();
  const auto rotation = rotation_bytes(options.rotation, **executor);
  if (!rotation) return rotation.status();
  const auto budget = parse_budget(options.budget);
  if (!budget) return budget.status();
  const auto seed = parse_seed(options.seed);
  if (!seed) return seed.status();
  Result<sim::ChosenPlan> automatic = plan_for_executor(*choice, *residency, **executor, *cpu);
  if (!automatic && (*executor)->device() == "cpu") return automatic.status();  // a GPU may have no profile
  std::vector<CaseRequest> all = all_cases(choice->problem, **executor);
  if (automatic) all.push_back(auto_case(*automatic));
  Bench bench{*choice, std::move(*executor), {}, {}, std::move(automatic)};
  auto cases = chosen_cases(std::move(all), options.only);
  if (!cases) return cases.status();
  bench.cases = std::move(*cases);
  if (options.exact_mask) {
    if (bench.executor->device() != "cpu" || choice->problem.arithmetic != Arithmetic::f32) {
      return invalid_argument("--exact-mask is for f32 sums on the CPU");
    }
    bench.cases = with_exact_masks(bench.cases);
  }
  bench.measure.executor = bench.executor.get();
  bench.measure.threads = cpu->threads;
  bench.measure.isa = cpu->isa;
  bench.measure.residency = *residency;
  bench.measure.rotation_bytes = *rotation;
  bench.measure.budget_s = *budget;
  bench.measure.seed = *seed;
  return bench;
}

double fraction_of_bandwidth(const CaseResult& one, const MeasureResult& measured) {
  if (one.samples == 0 || measured.read_bandwidth_Bps == 0) return 0;
  return static_cast<double>(one.bytes) / one.median_s / measured.read_bandwidth_Bps;
}

bool is_auto(const CaseResult& one) { return one.label == kAuto; }

std::string_view strategy_name(const CaseResult& one) {
  return one.plan && !is_auto(one) ? to_string(one.plan->strategy) : std::string_view(one.label);
}

/// Time of the case `auto` over the least of the cases with the same bits, less 1; none when either was not measured.
std::optional<double> regret(const MeasureResult& measured) {
  const CaseResult* chosen = nullptr;
  double least = 0;
  for (const CaseResult& one : measured.cases) {
    if (one.samples == 0 || !one.error.empty()) continue;
    if (is_auto(one)) {
      chosen = &one;
    } else if (one.plan && one.plan->strategy != Strategy::sign_split && !one.exact_mask && (least == 0 || one.median_s < least)) {
      least = one.median_s;
    }
  }
  if (chosen == nullptr || least == 0) return std::nullopt;
  return chosen->median_s / least - 1;
}

Json case_json(const CaseResult& one, const MeasureResult& measured) {
  Json json;
  json["strategy"] = strategy_name(one);
  json["skip"] = one.plan && one.plan->skip;
  json["variant"] = to_string(one.plan ? one.plan->variant : Variant::none);
  json["repair"] = to_string(one.plan ? one.plan->repair : Repair::none);
  json["label"] = one.label;
  json["exact_mask"] = one.exact_mask;
  json["median_s"] = one.median_s;
  json["p10_s"] = one.p10_s;
  json["p90_s"] = one.p90_s;
  json["samples"] = one.samples;
  json["bytes"] = one.bytes;
  json["fraction_of_read_bandwidth"] = fraction_of_bandwidth(one, measured);
  json["same_bits_as_row_fused"] = one.same_bits_as_row_fused;
  json["max_ulp"] = one.max_ulp;
  if (one.plan) {
    json["plan"] = plan_json(*one.plan);
    json["stats"] = statistics_json(one.statistics);
  }
  if (!one.detail.empty()) json["detail"] = one.detail;
  if (!one.error.empty()) json["error"] = one.error;
  return json;
}

Json bench_json(const Bench& bench, const MeasureResult& measured) {
  const Problem& problem = bench.choice.problem;
  Json json;
  json["d_model"] = problem.d_model;
  json["d_ff"] = problem.d_ff;
  json["batch"] = problem.batch;
  json["dtype"] = to_string(problem.dtype);
  json["activation"] = to_string(problem.activation, problem.gated);
  json["gated"] = problem.gated;
  json["active"] = bench.choice.active;
  json["seed"] = bench.measure.seed;
  json["residency"] = to_string(bench.measure.residency);
  json["device"] = measured.device;
  json["threads"] = measured.threads;
  json["isa"] = bench.executor->isa();
  json["layers"] = measured.layers;
  json["layer_bytes"] = measured.layer_bytes;
  json["huge_pages"] = measured.huge_pages;
  json["read_bandwidth_Bps"] = measured.read_bandwidth_Bps;
  json["read_bandwidth_p10_Bps"] = measured.read_bandwidth_p10_Bps;
  json["read_bandwidth_p90_Bps"] = measured.read_bandwidth_p90_Bps;
  json["cases"] = Json::array();
  for (const CaseResult& one : measured.cases) {
    json["cases"].push_back(case_json(one, measured));
    if (!is_auto(one)) continue;
    const std::optional<double> loss = regret(measured);
    json["cases"].back()["chosen"] = chosen_json(*bench.automatic);
    json["cases"].back()["regret"] = loss ? Json(*loss) : Json(nullptr);
  }
  return json;
}

void print_heading(const Bench& bench, const MeasureResult& measured, const Context& context) {
  const bool cold = bench.measure.residency == sim::Residency::cold;
  context.print("{}, {} active, seed {}\n", describe(bench.choice.problem), percent_text(bench.choice.active),
                bench.measure.seed);
  context.print("{} weights: {}, {} of {}, {} pages\n", to_string(bench.measure.residency),
                cold ? "in rotation" : "the same layer again", measured.layers == 1 ? "1 layer" : fmt::format("{} layers", measured.layers),
                bytes_text(measured.layer_bytes), measured.huge_pages ? "huge" : "ordinary");
  context.print("{}; reading alone: {} (p10 {}, p90 {})\n\n", bench.executor->description(), rate_text(measured.read_bandwidth_Bps),
                rate_text(measured.read_bandwidth_p10_Bps), rate_text(measured.read_bandwidth_p90_Bps));
}

/// What the case `auto` was, and what choosing it cost.
void print_auto(const Bench& bench, const MeasureResult& measured, const Context& context) {
  const auto found = std::find_if(measured.cases.begin(), measured.cases.end(), is_auto);
  if (!bench.automatic) context.print("auto: {}\n", bench.automatic.message());
  if (found == measured.cases.end()) return;
  context.print("{}", chosen_text(*bench.automatic, "took"));
  if (const std::optional<double> loss = regret(measured)) {
    context.print(": {:.3f} times the fastest schedule with the bits of row_fused", 1 + *loss);
  }
  context.print("\n");
}

/// A million ulps is another number, of which the digits say nothing.
std::string ulp_text(std::uint64_t ulp) {
  return ulp < 1'000'000 ? fmt::format("{}", ulp) : fmt::format("{:.1e}", static_cast<double>(ulp));
}

void print_table(const Bench& bench, const MeasureResult& measured, const Context& context) {
  print_heading(bench, measured, context);
  std::vector<const CaseResult*> order;
  for (const CaseResult& one : measured.cases) order.push_back(&one);
  std::stable_sort(order.begin(), order.end(), [](const CaseResult* a, const CaseResult* b) {
    if (a->error.empty() != b->error.empty()) return a->error.empty();
    return a->median_s < b->median_s;
  });
  context.print("{:<34} {:>10}  {:^23} {:>10} {:>8} {:>6} {:>10}\n", "schedule", "median", "p10 – p90", "weights", "of read",
                "bits", "max ulp");
  for (const CaseResult* one : order) {
    if (!one->error.empty()) {
      context.print("{:<34} {}\n", one->label, one->error);
      continue;
    }
    context.print("{:<34} {:>10}  {:>10} – {:<10} {:>10} {:>8} {:>6} {:>10}\n", one->label, time_text(one->median_s),
                  time_text(one->p10_s), time_text(one->p90_s), bytes_text(static_cast<double>(one->bytes)),
                  percent_text(fraction_of_bandwidth(*one, measured)), one->same_bits_as_row_fused ? "same" : "other",
                  ulp_text(one->max_ulp));
  }
  context.print("\n");
  for (const CaseResult& one : measured.cases) {
    if (!one.detail.empty()) context.print("{}: {}\n", one.label, one.detail);
  }
  print_auto(bench, measured, context);
  const bool composite = has_composite(bench.choice.problem.activation);
  context.print("bits: against row_fused with the same parts; max ulp: against the exact result, {}\n",
                composite ? "rounded once" : "with z, h and y rounded once each");
}

/// What lossless means is checked in the run that times it: unfused and row_fused, with and without skip, have the bits of
/// row_fused; and no call may have given another result than the first.
bool all_as_promised(const MeasureResult& measured) {
  return std::all_of(measured.cases.begin(), measured.cases.end(), [](const CaseResult& one) {
    if (!one.plan) return true;
    if (!one.error.empty()) return false;
    return one.plan->strategy == Strategy::sign_split || one.same_bits_as_row_fused;
  });
}

Result<ExitCode> run_bench(const BenchOptions& options, const Context& context) {
  const auto bench = resolve_bench(options);
  if (!bench) return bench.status();
  Progress progress("bench");
  const auto measured =
      measure(bench->choice.problem, bench->choice.active, bench->cases, bench->measure,
              [&](double fraction, const std::string& what) { progress.update(fraction, what); });
  progress.finish();
  if (!measured) return measured.status();
  print_table(*bench, *measured, context);
  if (options.device.device == "cpu") note_uncalibrated_host(context);
  if (Status status = write_json(context, bench_json(*bench, *measured)); !status.ok()) return status;
  return all_as_promised(*measured) ? ExitCode::done : ExitCode::check_failed;
}

}  // namespace

void add_bench(CLI::App& app, Context& context) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App& command = add_command(
      app, "bench", "Time every schedule and every vendor baseline on a synthetic layer, interleaved in one run",
      "Every case is checked in the run that times it: its bits against row_fused, its error in ulps against the exact\n"
      "result. Exit status 1 when unfused or row_fused, with or without skip, does not give the promised bits. `auto` is the\n"
      "planner's choice (see `signsplit calibrate`), timed like the others.\n"
      "\n"
      "Examples:\n"
      "  signsplit bench --shape 2048x8192 --dtype bf16 --active 0.1\n"
      "  signsplit bench --shape 768x3072 --dtype f32 --residency warm --threads 1 --json bench.json\n"
      "  signsplit bench --shape 4096x14336 --gated --batch 4 --budget 60\n"
      "  signsplit bench --shape 4096x16384 --device cuda:0 --launch programmatic");
  add_problem_options(command, options->problem);
  add_cpu_options(command, options->cpu);
  add_device_option(command, options->device);
  add_gpu_options(command, options->device);
  add_residency_option(command, options->residency);
  command.add_option("--rotation", options->rotation,
                     "MiB of layers that take turns when cold, two layers at least, as far as memory allows; default: 1024, or twice\n"
                     "the last-level cache if that is more, or a seventh of the free memory if that is less")
      ->type_name("MIB");
  command.add_option("--budget", options->budget, "Seconds of measuring for all cases together, after set-up; at least 5 rounds")
      ->type_name("S")
      ->capture_default_str();
  command.add_option("--only", options->only, "Labels of the cases to time, with commas between; default: all")->type_name("LIST");
  command.add_flag("--exact-mask", options->exact_mask,
                   "Time every lossless schedule also with the exact set of active units (see run --exact-mask)");
  command.add_option("--seed", options->seed, "Seed of the weights and of the input")->type_name("N")->capture_default_str();
  add_json_option(command, context);
  on_run(command, context, [options, &context] { return run_bench(*options, context); });
}

}  // namespace signsplit::tools
