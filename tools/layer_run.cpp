#include "tools/layer_run.hpp"

#include <algorithm>
#include <chrono>

#include "signsplit/reference.hpp"
#include "tools/auto_plan.hpp"
#include "tools/cpu_options.hpp"
#include "tools/prefill.hpp"

namespace signsplit::tools {
namespace {

class Stopwatch {
 public:
  [[nodiscard]] double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

std::span<const float> tokens_of(const LayerJob& job, index_t first, index_t count) {
  const auto d = static_cast<std::size_t>(job.weights.d_model());
  return std::span(job.x.values).subspan(static_cast<std::size_t>(first) * d, static_cast<std::size_t>(count) * d);
}

/// auto: what the planner says of the tokens of the first call. A mask is known to our kernels only.
Result<sim::ChosenPlan> choose_plan(const LayerJob& job, bool with_mask) {
  Result<sim::ChosenPlan> chosen = plan_for_layer(job.weights, tokens_of(job, 0, job.batch), job.batch, *job.executor, job.cpu,
                                                  job.planner, !with_mask);
  if (chosen && job.choice.plan.skip) chosen->plan.skip = true;
  return chosen;
}

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
Result<LayerRun> run_plan(const LayerJob& job, const Plan& plan, MaskRequest masks) {
  const index_t tokens = job.x.rows, d = job.weights.d_model(), f = job.weights.d_ff();
  LayerRun outcome;
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
Result<LayerRun> run_reference(const LayerJob& job, ReferenceMode mode, bool with_mask) {
  constexpr index_t kBlock = 64;
  LayerRun outcome;
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
Result<LayerRun> run_prefill(const LayerJob& job, VendorFfn& ffn) {
  const auto d = static_cast<std::size_t>(job.weights.d_model()), block = static_cast<std::size_t>(job.batch) * d;
  const std::vector<float>& tokens = job.x.values;
  LayerRun outcome;
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

}  // namespace

Result<LayerRun> run_layer(const LayerJob& job, MaskRequest masks) {
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

}  // namespace signsplit::tools
