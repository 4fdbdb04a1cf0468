// cpu::Ffn: binds weights, plan and workspace, and runs the walk on OpenMP workers.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "certify_dispatch.hpp"
#include "float_environment.hpp"
#include "part_tree.hpp"
#include "rotation.hpp"
#include "signsplit/certificate.hpp"
#include "signsplit/residual.hpp"
#include "style_chooser.hpp"
#include "tile_sink.hpp"
#include "w8a8.hpp"
#include "work_queue.hpp"

namespace signsplit::cpu {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kMaxPhases = 3;

int resolve_threads(const Options& options) {
  return options.threads > 0 ? options.threads : std::max(1, omp_get_max_threads());
}

/// An upper bound of the Euclidean norm: the sum of squares in double is relatively exact to (n + 2)·2^-53.
double norm_upper_bound(const float* x, index_t n) {
  double sum = 0.0;
  for (index_t k = 0; k < n; ++k) sum += static_cast<double>(x[k]) * static_cast<double>(x[k]);
  return std::sqrt(sum) * (1.0 + 0x1p-52 * static_cast<double>(n + 4));
}

/// 1 or 0. No early end, so that it can be vectors.
std::uint8_t any_nonfinite(const float* x, index_t n) {
  unsigned found = 0;
  for (index_t k = 0; k < n; ++k) found |= std::fabs(x[k]) <= std::numeric_limits<float>::max() ? 0u : 1u;
  return static_cast<std::uint8_t>(found);
}

}  // namespace

struct Ffn::State {
  const Weights* weights = nullptr;
  Plan plan;
  Problem problem;
  WalkShape shape;
  const KernelTable* kernels = nullptr;
  CertifyKernel certify = nullptr;
  bool exact_mask = false;
  // Every second run goes backwards through its parts: the same layer again, it begins with what is left of it in the caches.
  bool backwards = true;
  Rotation rotation;
  StyleChooser styles;  // of requests, while layers come from memory
  std::shared_ptr<const Certificate> certificate;  // of `weights`; certified only
  std::shared_ptr<const Residual> residual;        // of `weights`; placement residual only
  AlignedBuffer memory;
  Workspace workspace;
  WorkQueue queues[kMaxPhases];
  PartTree tree;
  Crew crew;
  std::vector<Statistics> statistics;  // per worker
  Report report;
  std::vector<TraceEvent>* trace = nullptr;          // null: not traced
  std::vector<std::vector<TraceEvent>> traced;       // per worker
  std::chrono::steady_clock::time_point trace_start;

  Status bind(const Weights& layer);
  void load_x(std::span<const float> x);
  void run_item(int phase, const WorkItem& item, int worker, TileSink& sink);
  [[nodiscard]] HiddenRange units_of(const WorkItem& item) const;
  void run_phase(int phase, int worker, const RunContext& run);
  void start_trace();
  void finish_trace();
  /// The layers in rotation do not fit in a cache.
  [[nodiscard]] bool reads_memory() const { return rotation.layers() * static_cast<index_t>(weight_bytes(problem)) > kCachedBytes; }
  /// Two workers may take a part one after the other: its sums are those of one. (sign_split's depend on tiles, and integers are scaled at a
  /// part's end.)
  [[nodiscard]] bool parts_can_be_cut() const {
    return plan.strategy != Strategy::sign_split && problem.arithmetic == Arithmetic::f32;
  }
  [[nodiscard]] double trace_time() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - trace_start).count();
  }
  void run_one_region(const RunContext& run);
  void run_region_per_phase(const RunContext& run);
};

Status can_run(const Plan& plan, const Problem& problem, const Options& options) {
  if (Status s = validate(problem); !s) return s;
  if (Status s = validate(plan, problem); !s) return s;
  if (options.exact_mask && problem.arithmetic != Arithmetic::f32) {
    return unsupported("exact_mask is about f32 sums: the arithmetic w8a8 has none");
  }
  if (options.threads < 0 || options.threads > kMaxThreads) {
    return invalid_argument("threads must be between 0 (all) and " + std::to_string(kMaxThreads) + " (got " +
                            std::to_string(options.threads) + ")");
  }
  return select_isa(options.isa).status();
}

std::size_t workspace_bytes(const Plan& plan, const Problem& problem, const Options& options) {
  return workspace_size(plan, problem, resolve_threads(options));
}

Result<Ffn> Ffn::create(const Weights& weights, const Plan& plan, index_t batch, const Options& options) try {
  const Problem problem = weights.problem(batch);
  if (Status s = can_run(plan, problem, options); !s) return s;
  auto state = std::make_unique<State>();
  state->plan = plan;
  state->problem = problem;
  if (Status s = state->bind(weights); !s) return s;
  state->shape = walk_shape(problem);
  state->report.threads = resolve_threads(options);
  state->kernels = &kernels_for(*select_isa(options.isa));
  state->report.isa = *parse_isa(state->kernels->isa);
  state->certify = certify_kernel_for(state->report.isa);
  state->exact_mask = options.exact_mask;
  const std::size_t bytes = workspace_size(plan, problem, state->report.threads);
  state->memory = AlignedBuffer(bytes);
  if (state->memory.data() == nullptr) return io_error("no memory for a workspace of " + std::to_string(bytes) + " bytes");
  state->workspace = carve(state->memory.data(), plan, problem, state->report.threads);
  state->statistics.resize(static_cast<std::size_t>(state->report.threads));
  for (WorkQueue& queue : state->queues) queue.resize(state->report.threads);
  state->tree.resize(plan.parts);
  state->crew.resize(state->report.threads);
  return Ffn(state.release());
} catch (const std::bad_alloc&) {
  return io_error("no memory for an FFN of " + describe(weights.problem(batch)));
}

Ffn::Ffn(Ffn&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
Ffn& Ffn::operator=(Ffn&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}
Ffn::~Ffn() { delete state_; }

Status Ffn::rebind(const Weights& weights) {
  const Problem& mine = state_->problem;
  const Problem other = weights.problem(mine.batch);
  if (other != mine) return invalid_argument("the layer is " + describe(other) + ", expected " + describe(mine));
  return state_->bind(weights);
}

/// Takes a layer, with the certificate and the residual that the plan asks for. On failure nothing changes.
Status Ffn::State::bind(const Weights& layer) {
  if (Status status = layer.has_for(plan); !status) return status;
  std::shared_ptr<const Residual> restores;
  if (plan.placement == Placement::residual) {
    auto found = layer.residual(format_of(plan));
    if (!found) return found.status();
    restores = std::move(found).value();
  }
  if (plan.strategy == Strategy::certified) {
    auto found = layer.certificate(format_of(plan));
    if (!found) return found.status();
    certificate = std::move(found).value();
  }
  residual = std::move(restores);
  weights = &layer;
  rotation.bind(weights);
  return {};
}

const Report& Ffn::report() const noexcept { return state_->report; }
const Plan& Ffn::plan() const noexcept { return state_->plan; }
const Problem& Ffn::problem() const noexcept { return state_->problem; }

/// Copies x, zero-padded, and notes per token whether it is finite and its norm.
void Ffn::State::load_x(std::span<const float> x) {
  for (index_t b = 0; b < problem.batch; ++b) {
    const float* from = x.data() + b * problem.d_model;
    float* to = workspace.x + b * shape.d_padded;
    std::copy_n(from, problem.d_model, to);
    std::fill(to + problem.d_model, to + shape.d_padded, 0.0f);
    workspace.x_nonfinite[b] = any_nonfinite(from, problem.d_model);
    if (plan.strategy == Strategy::sign_split || exact_mask) workspace.x_norms[b] = norm_upper_bound(from, problem.d_model);
    if (plan.strategy == Strategy::certified) {
      const PanelLayout layout = certificate->layout();
      workspace.x_tokens[b] = quantize_token(layout, to, workspace.x_quads + b * shape.d_padded / 4,
                                             workspace.x_groups + b * layout.groups(), quantize_group_for(report.isa));
    }
  }
  if (problem.arithmetic == Arithmetic::w8a8) {
    load_integer_x(*weights, problem.batch, workspace);
  } else if (problem.batch > 1) {
    kernels->pack_x({workspace.x, problem.batch, shape.d_padded, workspace.packed_x});
  }
}

/// The units of a part, or of a share of one: shares begin at panels of the plane, so that none is read twice.
HiddenRange Ffn::State::units_of(const WorkItem& item) const {
  const HiddenRange part = part_range(plan, shape, item.number);
  const auto border = [&](index_t slice) {
    if (slice == 0 || slice == item.slices) return slice == 0 ? part.begin : part.end;
    return std::clamp(round_up(part.begin + part.size() * slice / item.slices, kPanelRows), part.begin, part.end);
  };
  return {border(item.begin), border(item.end)};
}

void Ffn::State::run_item(int phase, const WorkItem& item, int worker, TileSink& sink) {
  const double begin = trace != nullptr ? trace_time() : 0.0;
  if (phase_at(plan, phase) == Phase::reduce) {
    walk(plan, shape, Phase::reduce, item.number, sink);
  } else {
    const WorkItem next = queues[phase].after(item);
    const HiddenRange units = units_of(item);
    sink.expect(units, next.number >= 0 ? units_of(next).begin : shape.d_ff);
    queues[phase].await_beginning(item);
    if (units.size() > 0) walk_units(plan, shape, phase_at(plan, phase), item.number, units, sink);
  }
  if (trace != nullptr) traced[static_cast<std::size_t>(worker)].push_back({worker, phase, item.number, begin, trace_time()});
}

/// Takes items of a phase until none is left. Where all phases are one region, who completes the last part's y goes on to the reduction.
void Ffn::State::run_phase(int phase, int worker, const RunContext& run) {
  const DefaultFloatEnvironment float_environment;
  WorkQueue& queue = queues[phase];
  TileSink sink(run, workspace.tiles[static_cast<std::size_t>(worker)], {report.threads > 1 ? &crew : nullptr, &queue, worker});
  const int reduction = phase_count(plan) - 1;
  bool y_complete = false;
  for (WorkItem item = queue.take(worker); item.number >= 0; item = queue.take(worker)) {
    run_item(phase, item, worker, sink);
    queue.finish(item);
    if (phase + 1 == reduction && !item.is_continued()) {
      y_complete = tree.done(item.number, [&](index_t into, index_t from) { sink.add_part(into, from); });
    }
  }
  crew.help(queue);
  if (y_complete && plan.launch == Launch::one_region) {
    const index_t slices = item_count(plan, shape, Phase::reduce);
    for (index_t slice = 0; slice < slices; ++slice) run_item(reduction, {.number = slice}, worker, sink);
  }
  statistics[static_cast<std::size_t>(worker)] += sink.statistics();
}

void Ffn::State::start_trace() {
  traced.resize(static_cast<std::size_t>(report.threads));
  for (std::vector<TraceEvent>& worker : traced) worker.clear();
  trace_start = std::chrono::steady_clock::now();
}

void Ffn::State::finish_trace() {
  trace->clear();
  for (const std::vector<TraceEvent>& worker : traced) trace->insert(trace->end(), worker.begin(), worker.end());
}

void Ffn::trace(std::vector<TraceEvent>* events) noexcept { state_->trace = events; }

void Ffn::State::run_one_region(const RunContext& run) {
  const int phases = phase_count(plan) - 1;  // of products
#pragma omp parallel num_threads(report.threads)
  for (int phase = 0; phase < phases; ++phase) {
    if (phase > 0) {
#pragma omp barrier
    }
    run_phase(phase, omp_get_thread_num(), run);
  }
}

void Ffn::State::run_region_per_phase(const RunContext& run) {
  for (int phase = 0; phase < phase_count(plan); ++phase) {
#pragma omp parallel num_threads(report.threads)
    run_phase(phase, omp_get_thread_num(), run);
  }
}

Status Ffn::run(std::span<const float> x, std::span<float> y, std::span<std::uint8_t> active_mask) {
  State& s = *state_;
  const auto expect = [](const char* name, std::size_t got, index_t want) {
    return invalid_argument(std::string(name) + " has " + std::to_string(got) + " elements, expected " +
                            std::to_string(want));
  };
  const index_t io_elems = s.problem.batch * s.problem.d_model, mask_elems = s.problem.batch * s.problem.d_ff;
  if (x.size() != static_cast<std::size_t>(io_elems)) return expect("x", x.size(), io_elems);
  if (y.size() != static_cast<std::size_t>(io_elems)) return expect("y", y.size(), io_elems);
  if (!active_mask.empty() && active_mask.size() != static_cast<std::size_t>(mask_elems)) {
    return expect("active_mask", active_mask.size(), mask_elems);
  }
  if (s.trace != nullptr) s.start_trace();
  {
    const DefaultFloatEnvironment float_environment;
    s.load_x(x);
  }
  std::fill(s.statistics.begin(), s.statistics.end(), Statistics{});
  s.backwards = !s.backwards;
  for (int phase = 0; phase < phase_count(s.plan); ++phase) {
    const Phase kind = phase_at(s.plan, phase);
    s.queues[phase].reset(item_count(s.plan, s.shape, kind), s.backwards, kind != Phase::reduce && s.parts_can_be_cut());
  }
  const bool from_memory = s.reads_memory();
  // Dense layers all take the same time.
  const void* const like = s.plan.skip || s.plan.strategy == Strategy::certified ? static_cast<const void*>(s.weights) : &s;
  const RunContext run{*s.weights, s.plan, s.problem, s.shape, *s.kernels, s.workspace, y.data(),
                       active_mask.empty() ? nullptr : active_mask.data(), s.certificate.get(), s.residual.get(), s.certify, s.exact_mask,
                       &integer_kernels_for(s.report.isa), &restored_kernels_for(s.report.isa), from_memory,
                       from_memory ? s.styles.style(like) : RequestStyle::slow_memory};
  const auto begin = std::chrono::steady_clock::now();
  s.plan.launch == Launch::one_region ? s.run_one_region(run) : s.run_region_per_phase(run);
  if (from_memory) s.styles.took(like, std::chrono::steady_clock::now() - begin);
  s.report.statistics = Statistics{};
  for (const Statistics& worker : s.statistics) s.report.statistics += worker;
  if (s.trace != nullptr) s.finish_trace();
  return {};
}

}  // namespace signsplit::cpu
