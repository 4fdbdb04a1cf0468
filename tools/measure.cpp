#include "tools/measure.hpp"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <utility>

#include "signsplit/reference.hpp"
#include "signsplit/synthetic.hpp"
#include "tools/host_memory.hpp"
#include "tools/read_probe.hpp"
#include "tools/vendor.hpp"

namespace signsplit::tools {
namespace {

using Clock = std::chrono::steady_clock;
using sim::Residency;

constexpr double kMiB = 1024.0 * 1024.0;
/// Never use more of the memory that is free.
constexpr double kMemoryShare = 0.6;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Calls before the timed one, in every turn. Cold: one, on the layer before, because in decoding the call before was the
/// same code with the same workspace. Warm: two, because the other cases have pushed the layer out of the caches.
int lead_in_calls(Residency residency) { return residency == Residency::cold ? 1 : 2; }

/// Bytes to rotate through so that what comes round again is in no cache. Twice the last level, since a case that skips
/// rows may read little more than half of a layer; sysfs of a shared machine reports the whole machine's cache, of which
/// a guest uses a part, hence the upper limit.
double rotation_bytes() {
  double last_level = 0;
  for (const sim::CacheLevel& level : sim::detect_host().levels) {
    last_level = std::max(last_level, level.capacity_bytes.value);
  }
  return std::max(256 * kMiB, std::min(2 * last_level, 1536 * kMiB));
}

/// Linear interpolation between order statistics. `sorted` is not empty.
double quantile(const std::vector<double>& sorted, double q) {
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::uint64_t max_ulp_distance(const std::vector<float>& a, const std::vector<float>& b) {
  std::uint64_t most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, ulp_distance(a[i], b[i]));
  return most;
}

/// The packed matrices of a layer.
std::vector<std::span<const std::byte>> matrices(const Weights& weights) {
  const auto bytes = static_cast<std::size_t>(weights.d_ff() * weights.row_bytes());
  std::vector<std::span<const std::byte>> spans{{weights.up(), bytes}, {weights.down(), bytes}};
  if (weights.gated()) spans.emplace_back(weights.gate(), bytes);
  return spans;
}

/// A case while it is measured.
struct Subject {
  CaseResult result;
  std::string vendor;                             // empty: `ffn`
  std::optional<cpu::Ffn> ffn;
  std::vector<std::unique_ptr<VendorFfn>> copies; // a vendor's rotation
  std::size_t next_copy = 0;
  std::vector<float> first_y;                     // every later call must give the same bits
  std::vector<double> seconds;

  [[nodiscard]] bool alive() const { return result.error.empty(); }
  void fail(const Status& status) { result.error = status.message(); }
};

class Session {
 public:
  Session(const Problem& problem, const MeasureOptions& options, const MeasureProgress& progress)
      : problem_(problem), options_(options), progress_(progress),
        threads_(options.threads > 0 ? options.threads : omp_get_max_threads()) {}

  Status make_layers(double active);
  void add(const CaseRequest& request);
  void check_all();
  void prepare_rotations();
  void time_rounds();
  MeasureResult finish();

 private:
  [[nodiscard]] cpu::Options executor_options() const { return {.threads = threads_, .isa = options_.isa}; }
  [[nodiscard]] double layer_bytes() const { return static_cast<double>(weight_bytes(problem_)); }
  [[nodiscard]] double memory_left() const;
  void report(double fraction, const std::string& what) const {
    if (progress_) progress_(fraction, what);
  }
  const Weights& next_layer() { return layers_[next_layer_++ % layers_.size()]; }

  void open(Subject& subject);
  void check(Subject& subject, const std::vector<float>& exact);
  Result<std::vector<float>> row_fused_output(index_t parts);
  [[nodiscard]] std::size_t vendor_copies_needed(const Subject& subject) const;
  void add_vendor_copies(Subject& subject);
  Result<double> timed_call(Subject& subject);
  void check_again(Subject& subject);
  void turn(Subject& subject);
  void bandwidth_turn();

  Problem problem_;
  MeasureOptions options_;
  const MeasureProgress& progress_;
  int threads_;
  std::vector<Weights> layers_;
  std::size_t next_layer_ = 0;
  std::vector<float> x_, y_;
  std::vector<Subject> subjects_;
  std::map<index_t, std::vector<float>> row_fused_;  // by parts
  std::vector<double> read_seconds_;
};

/// Bytes that may still be taken; without a word from the system, as much as is asked for.
double Session::memory_left() const {
  const std::size_t available = available_memory_bytes();
  return available == 0 ? std::numeric_limits<double>::infinity() : kMemoryShare * static_cast<double>(available);
}

Status Session::make_layers(double active) {
  report(0.0, "making the layer");
  auto first = synthetic_weights(problem_, active, options_.seed, threads_);
  if (!first) return first.status();
  layers_.push_back(std::move(first).value());
  x_ = synthetic_input(problem_.batch, problem_.d_model, options_.seed + 1);
  y_.resize(x_.size());
  if (options_.residency == Residency::warm) return {};

  const double wanted = std::max(2.0, std::ceil(rotation_bytes() / layer_bytes()));
  const double possible = 1.0 + std::floor(memory_left() / layer_bytes());
  if (possible < 2.0) return io_error("not enough free memory for two layers to rotate through; try --residency warm");
  const auto count = static_cast<std::size_t>(std::min(wanted, possible));
  while (layers_.size() < count) {
    report(0.1 + 0.1 * static_cast<double>(layers_.size()) / static_cast<double>(count), "copying layers");
    auto copy = layers_.front().clone();
    if (!copy) return copy.status();
    layers_.push_back(std::move(copy).value());
  }
  return {};
}

void Session::add(const CaseRequest& request) {
  Subject subject;
  subject.vendor = request.vendor;
  subject.result.plan = request.plan;
  subject.result.label = request.plan ? label(*request.plan) : request.vendor;
  open(subject);
  subjects_.push_back(std::move(subject));
}

/// The case on the first layer.
void Session::open(Subject& subject) {
  if (subject.result.plan) {
    auto ffn = cpu::Ffn::create(layers_.front(), *subject.result.plan, problem_.batch, executor_options());
    if (!ffn) return subject.fail(ffn.status());
    subject.ffn.emplace(std::move(ffn).value());
    return;
  }
  auto copy = make_vendor(subject.vendor, layers_.front(), problem_.batch, threads_);
  if (!copy) return subject.fail(copy.status());
  subject.result.bytes = (*copy)->weight_bytes();
  subject.result.detail = (*copy)->description();
  subject.copies.push_back(std::move(copy).value());
}

/// Runs every case once and compares: bits with row_fused, ulps with the exact reference.
void Session::check_all() {
  std::vector<float> exact;
  if (options_.check_results) {
    report(0.2, "exact reference");
    auto result = reference(layers_.front(), x_, problem_.batch, ReferenceMode::composite, threads_);
    if (!result) {
      for (Subject& subject : subjects_) subject.fail(result.status());
      return;
    }
    exact = std::move(result->y);
  }
  for (Subject& subject : subjects_) {
    if (!subject.alive()) continue;
    report(0.25, "checking " + subject.result.label);
    check(subject, exact);
  }
}

void Session::check(Subject& subject, const std::vector<float>& exact) {
  std::fill(y_.begin(), y_.end(), std::numeric_limits<float>::quiet_NaN());
  const Status status = subject.ffn ? subject.ffn->run(x_, y_) : subject.copies.front()->run(x_, y_);
  if (!status.ok()) return subject.fail(status);
  subject.first_y = y_;
  if (subject.ffn) {
    subject.result.statistics = subject.ffn->report().statistics;
    subject.result.bytes = signsplit::weight_bytes(subject.result.statistics);
  }
  if (!options_.check_results) return;
  subject.result.max_ulp = max_ulp_distance(subject.first_y, exact);
  auto expected = row_fused_output(subject.result.plan ? subject.result.plan->parts : 0);
  if (!expected) return subject.fail(expected.status());
  subject.result.same_bits_as_row_fused = same_bits(subject.first_y, *expected);
}

/// What row_fused with these parts gives on the first layer. parts 0: those of the default plan.
Result<std::vector<float>> Session::row_fused_output(index_t parts) {
  if (const auto known = row_fused_.find(parts); known != row_fused_.end()) return known->second;
  Plan plan = default_plan(problem_, Strategy::row_fused);
  if (parts > 0) plan.parts = parts;
  auto ffn = cpu::Ffn::create(layers_.front(), plan, problem_.batch, executor_options());
  if (!ffn) return ffn.status();
  std::vector<float> y(y_.size(), std::numeric_limits<float>::quiet_NaN());
  if (Status status = ffn->run(x_, y); !status.ok()) return status;
  return row_fused_.emplace(parts, std::move(y)).first->second;
}

/// A vendor's own copies rotate too. Between two of its turns all other cases read at least one matrix of one layer per
/// call, so that few copies do.
std::size_t Session::vendor_copies_needed(const Subject& subject) const {
  if (options_.residency == Residency::warm) return 1;
  const auto calls = static_cast<double>(lead_in_calls(options_.residency) + 1);
  double round_bytes = calls * static_cast<double>(subject.result.bytes);
  for (const Subject& other : subjects_) {
    if (other.ffn && other.alive()) round_bytes += calls * layer_bytes() / static_cast<double>(matrix_count(problem_));
  }
  return static_cast<std::size_t>(calls * std::max(1.0, std::ceil(rotation_bytes() / round_bytes)));
}

void Session::add_vendor_copies(Subject& subject) {
  const std::size_t needed = vendor_copies_needed(subject);
  while (subject.copies.size() < needed) {
    report(0.3, "packing for " + subject.vendor);
    if (memory_left() < static_cast<double>(subject.result.bytes)) {
      return subject.fail(io_error("not enough free memory for " + std::to_string(needed) + " copies of the layer"));
    }
    auto copy = make_vendor(subject.vendor, layers_.front(), problem_.batch, threads_);
    if (!copy) return subject.fail(copy.status());
    subject.copies.push_back(std::move(copy).value());
  }
}

void Session::prepare_rotations() {
  for (Subject& subject : subjects_) {
    if (!subject.vendor.empty() && subject.alive()) add_vendor_copies(subject);
  }
}

/// One call on the next layer. The output is poisoned before, so that what is checked after it comes from this call.
Result<double> Session::timed_call(Subject& subject) {
  std::fill(y_.begin(), y_.end(), std::numeric_limits<float>::quiet_NaN());
  if (subject.ffn) {
    if (Status status = subject.ffn->rebind(next_layer()); !status.ok()) return status;
    const auto start = Clock::now();
    Status status = subject.ffn->run(x_, y_);
    const double seconds = seconds_since(start);
    if (!status.ok()) return status;
    return seconds;
  }
  VendorFfn& copy = *subject.copies[subject.next_copy++ % subject.copies.size()];
  const auto start = Clock::now();
  Status status = copy.run(x_, y_);
  const double seconds = seconds_since(start);
  if (!status.ok()) return status;
  return seconds;
}

/// Layers are copies of each other: ours must give the same bits every time. A vendor promises less; of it we ask only
/// that it wrote every output.
void Session::check_again(Subject& subject) {
  const auto poisoned = [&] {
    for (std::size_t i = 0; i < y_.size(); ++i) {
      if (std::isnan(y_[i]) && !std::isnan(subject.first_y[i])) return true;
    }
    return false;
  };
  if (subject.ffn ? !same_bits(y_, subject.first_y) : poisoned()) {
    subject.result.error = "a timed call gave another result than the first call";
  }
}

void Session::turn(Subject& subject) {
  Result<double> seconds = 0.0;
  for (int call = 0; call <= lead_in_calls(options_.residency); ++call) {
    seconds = timed_call(subject);
    if (!seconds) return subject.fail(seconds.status());
  }
  subject.seconds.push_back(*seconds);
  check_again(subject);
}

void Session::bandwidth_turn() {
  for (int call = 0; call <= lead_in_calls(options_.residency); ++call) {
    const auto ranges = matrices(next_layer());
    const auto start = Clock::now();
    read_all(ranges, threads_);
    if (call == lead_in_calls(options_.residency)) read_seconds_.push_back(seconds_since(start));
  }
}

/// A, B, C, ..., read probe, A, B, C, ... until the budget is spent.
void Session::time_rounds() {
  const auto start = Clock::now();
  for (int round = 0; round < options_.min_rounds || seconds_since(start) < options_.budget_s; ++round) {
    const double spent = seconds_since(start) / std::max(options_.budget_s, 1e-9);
    report(0.35 + 0.65 * std::min(1.0, spent), "measuring");
    bool any = options_.measure_read_bandwidth;
    for (Subject& subject : subjects_) {
      if (!subject.alive()) continue;
      turn(subject);
      any = true;
    }
    if (options_.measure_read_bandwidth) bandwidth_turn();
    if (!any) break;
  }
}

MeasureResult Session::finish() {
  MeasureResult result;
  result.threads = threads_;
  result.layers = static_cast<int>(layers_.size());
  result.layer_bytes = layer_bytes();
  std::vector<std::span<const std::byte>> all;
  for (const Weights& layer : layers_) {
    for (const auto& matrix : matrices(layer)) all.push_back(matrix);
  }
  result.huge_pages = huge_page_fraction(all) > 0.5;
  if (!read_seconds_.empty()) {
    std::sort(read_seconds_.begin(), read_seconds_.end());
    result.read_bandwidth_Bps = layer_bytes() / quantile(read_seconds_, 0.5);
    result.read_bandwidth_p10_Bps = layer_bytes() / quantile(read_seconds_, 0.9);
    result.read_bandwidth_p90_Bps = layer_bytes() / quantile(read_seconds_, 0.1);
  }
  for (Subject& subject : subjects_) {
    std::sort(subject.seconds.begin(), subject.seconds.end());
    if (!subject.seconds.empty()) {
      subject.result.median_s = quantile(subject.seconds, 0.5);
      subject.result.p10_s = quantile(subject.seconds, 0.1);
      subject.result.p90_s = quantile(subject.seconds, 0.9);
      subject.result.samples = static_cast<int>(subject.seconds.size());
    }
    result.cases.push_back(std::move(subject.result));
  }
  report(1.0, "done");
  return result;
}

}  // namespace

Result<MeasureResult> measure(const Problem& problem, double active, std::span<const CaseRequest> cases,
                              const MeasureOptions& options, const MeasureProgress& progress) try {
  if (Status status = validate(problem); !status.ok()) return status;
  for (const CaseRequest& request : cases) {
    if (request.plan.has_value() != request.vendor.empty()) {
      return invalid_argument("a case is either a plan or a vendor");
    }
  }
  Session session(problem, options, progress);
  if (Status status = session.make_layers(active); !status.ok()) return status;
  for (const CaseRequest& request : cases) session.add(request);
  session.check_all();
  session.prepare_rotations();
  session.time_rounds();
  return session.finish();
} catch (const std::bad_alloc&) {
  return io_error("not enough memory to measure " + describe(problem));
}

}  // namespace signsplit::tools
