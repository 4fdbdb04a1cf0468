#include "tools/measure.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <utility>

#include "signsplit/reference.hpp"
#include "signsplit/synthetic.hpp"
#include "tools/quantile.hpp"
#include "tools/turns.hpp"

namespace signsplit::tools {
namespace {

using Clock = std::chrono::steady_clock;
using sim::Residency;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::uint64_t max_ulp_distance(const std::vector<float>& a, const std::vector<float>& b) {
  std::uint64_t most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, ulp_distance(a[i], b[i]));
  return most;
}

/// A case while it is measured.
struct Subject {
  CaseResult result;
  std::string vendor;                             // empty: `ffn`
  std::unique_ptr<ExecutorFfn> ffn;
  std::vector<std::unique_ptr<VendorFfn>> copies; // a vendor's rotation
  std::size_t next_copy = 0;
  std::vector<float> first_y;                     // every later call must give the same bits
  Turns turns;
  bool seldom = false;

  [[nodiscard]] bool alive() const { return result.error.empty(); }
  void fail(const Status& status) { result.error = status.message(); }
};

class Session {
 public:
  Session(const Problem& problem, const MeasureOptions& options, const MeasureProgress& progress)
      : problem_(problem), options_(options), progress_(progress),
        own_executor_(options.executor != nullptr ? nullptr : cpu_executor({.threads = options.threads, .isa = options.isa})),
        executor_(options.executor != nullptr ? options.executor : own_executor_.get()),
        exact_executor_(cpu_executor({.threads = options.threads, .isa = options.isa, .exact_mask = true})),
        watch_(options.still), random_(options.seed) {}

  Status make_layers(double active);
  void add(const CaseRequest& request);
  void check_all();
  void prepare_rotations();
  Status time_all();
  MeasureResult finish();

 private:
  [[nodiscard]] double layer_bytes() const { return static_cast<double>(weight_bytes(problem_)); }
  [[nodiscard]] double rotation_bytes() const { return options_.rotation_bytes > 0 ? options_.rotation_bytes : executor_->rotation_bytes(); }
  void report(double fraction, const std::string& what) const {
    if (progress_) progress_(fraction, what);
  }

  void open(Subject& subject);
  void check(Subject& subject, const std::vector<float>& exact);
  Result<std::vector<float>> row_fused_output(index_t parts);
  void add_vendor_copies(Subject& subject);
  Result<double> timed_turn(Subject& subject);
  void check_again(Subject& subject);
  void turn(Subject& subject, int round);
  Status bandwidth_turn();
  Status time_rounds(std::vector<Subject*> subjects, double budget_s, int min_rounds, bool read);
  [[nodiscard]] std::vector<PairedMedian> paired() const;
  void summarise(Subject& subject) const;
  void pair();
  [[nodiscard]] double share_left_out() const;

  Problem problem_;
  MeasureOptions options_;
  const MeasureProgress& progress_;
  std::unique_ptr<Executor> own_executor_;
  Executor* executor_;
  std::unique_ptr<Executor> exact_executor_;  // runs on the CPU's layers with the exact mask
  std::optional<Weights> weights_;  // the layer, of which the rotation holds copies
  Rotation rotation_;
  std::vector<float> x_, y_;
  std::vector<Subject> subjects_;
  std::map<index_t, std::vector<float>> row_fused_;  // by parts
  Turns reads_;
  Watch watch_;
  std::mt19937_64 random_;
  int rounds_ = 0;
};

Status Session::make_layers(double active) {
  report(0.0, "making the layer");
  auto first = synthetic_weights(problem_, active, options_.seed, options_.threads);
  if (!first) return first.status();
  weights_.emplace(std::move(first).value());
  x_ = synthetic_input(problem_.batch, problem_.d_model, options_.seed + 1);
  y_.resize(x_.size());
  auto loaded = executor_->load(*weights_);
  if (!loaded) return loaded.status();
  rotation_.layers.push_back(std::move(loaded).value());
  if (options_.residency == Residency::warm) return {};

  const double wanted = std::max(2.0, std::ceil(rotation_bytes() / layer_bytes()));
  const double possible = 1.0 + std::floor(executor_->memory_left_bytes() / layer_bytes());
  if (possible < 2.0) return io_error("not enough free memory for two layers to rotate through; try --residency warm");
  const auto count = static_cast<std::size_t>(std::min(wanted, possible));
  while (rotation_.layers.size() < count) {
    report(0.1 + 0.1 * static_cast<double>(rotation_.layers.size()) / static_cast<double>(count), "copying layers");
    auto copy = executor_->duplicate(*rotation_.layers.front());
    if (!copy) return copy.status();
    rotation_.layers.push_back(std::move(copy).value());
  }
  return {};
}

void Session::add(const CaseRequest& request) {
  Subject subject;
  subject.vendor = request.vendor;
  subject.result.plan = request.plan;
  subject.result.exact_mask = request.exact_mask;
  subject.result.label = label_of(request);
  subject.seldom = request.seldom;
  open(subject);
  subjects_.push_back(std::move(subject));
}

/// The case on the first layer.
void Session::open(Subject& subject) {
  if (subject.result.plan) {
    Executor& executor = subject.result.exact_mask ? *exact_executor_ : *executor_;
    auto ffn = executor.create(*rotation_.layers.front(), *subject.result.plan, problem_.batch);
    if (!ffn) return subject.fail(ffn.status());
    subject.ffn = std::move(ffn).value();
    return;
  }
  auto copy = executor_->make_vendor(subject.vendor, *weights_, problem_.batch);
  if (!copy) return subject.fail(copy.status());
  subject.result.bytes = (*copy)->weight_bytes();
  subject.result.detail = (*copy)->description();
  subject.copies.push_back(std::move(copy).value());
}

/// Runs every case once and compares: bits with row_fused, ulps with the exact reference.
void Session::check_all() {
  std::vector<float> exact;
  if (options_.check_results && options_.exact_reference) {
    report(0.2, "exact reference");
    auto result = reference(*weights_, x_, problem_.batch, sharpest_mode(problem_.activation), options_.threads);
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
    subject.result.statistics = subject.ffn->statistics();
    subject.result.bytes = signsplit::weight_bytes(subject.result.statistics);
  }
  if (!options_.check_results) return;
  if (!exact.empty()) subject.result.max_ulp = max_ulp_distance(subject.first_y, exact);
  auto expected = row_fused_output(subject.result.plan ? subject.result.plan->parts : 0);
  if (!expected) return subject.fail(expected.status());
  subject.result.same_bits_as_row_fused = same_bits(subject.first_y, *expected);
}

/// What row_fused (of w8a8, which it does not run, unfused) with these parts gives on the layer, on the CPU, whatever is
/// measured. parts 0: those of the default plan.
Result<std::vector<float>> Session::row_fused_output(index_t parts) {
  if (const auto known = row_fused_.find(parts); known != row_fused_.end()) return known->second;
  Plan plan = default_plan(problem_, problem_.arithmetic == Arithmetic::w8a8 ? Strategy::unfused : Strategy::row_fused);
  if (parts > 0) plan.parts = parts;
  auto ffn = cpu::Ffn::create(*weights_, plan, problem_.batch, {.threads = options_.threads, .isa = options_.isa});
  if (!ffn) return ffn.status();
  std::vector<float> y(y_.size(), std::numeric_limits<float>::quiet_NaN());
  if (Status status = ffn->run(x_, y); !status.ok()) return status;
  return row_fused_.emplace(parts, std::move(y)).first->second;
}

void Session::add_vendor_copies(Subject& subject) {
  double others = 0;  // bytes that the other cases read between two turns of this one, at least
  for (const Subject& other : subjects_) {
    if (other.ffn && other.alive()) others += layer_bytes() / static_cast<double>(matrix_count(problem_));
  }
  const auto own = static_cast<double>(subject.result.bytes);
  const std::size_t needed = executor_->vendor_copies(options_.residency, rotation_bytes(), own, others);
  while (subject.copies.size() < needed) {
    report(0.3, "packing for " + subject.vendor);
    if (executor_->memory_left_bytes() < own) {
      return subject.fail(io_error("not enough free memory for " + std::to_string(needed) + " copies of the layer"));
    }
    auto copy = executor_->make_vendor(subject.vendor, *weights_, problem_.batch);
    if (!copy) return subject.fail(copy.status());
    subject.copies.push_back(std::move(copy).value());
  }
}

void Session::prepare_rotations() {
  for (Subject& subject : subjects_) {
    if (!subject.vendor.empty() && subject.alive()) add_vendor_copies(subject);
  }
}

/// The output is poisoned before, so that what is checked after it comes from this turn.
Result<double> Session::timed_turn(Subject& subject) {
  std::fill(y_.begin(), y_.end(), std::numeric_limits<float>::quiet_NaN());
  if (subject.ffn) return subject.ffn->timed_turn(rotation_, options_.residency, x_, y_);
  Result<double> seconds = 0.0;
  for (int call = 0; call < executor_->calls_per_turn(options_.residency); ++call) {
    seconds = subject.copies[subject.next_copy++ % subject.copies.size()]->timed_run(x_, y_);
    if (!seconds) return seconds;
  }
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

void Session::turn(Subject& subject, int round) {
  const Result<double> seconds = timed_turn(subject);
  if (!seconds) return subject.fail(seconds.status());
  subject.turns.add(*seconds, watch_, static_cast<std::size_t>(round));
  check_again(subject);
}

Status Session::bandwidth_turn() {
  const Result<double> seconds = executor_->timed_read(rotation_, options_.residency);
  if (!seconds) return seconds.status();
  reads_.add(*seconds, watch_, reads_.size());
  return {};
}

/// A, B, C, ..., read probe, B, C, A, ... until the budget is spent. Every round in an order of its own: in one order for all, a case always
/// came after the same other one, and on the same copies of the layer, and two cases of one schedule differed by 1 to 3 % (6 % near the
/// capacity of a cache), which repeating did not show.
Status Session::time_rounds(std::vector<Subject*> subjects, double budget_s, int min_rounds, bool read) {
  constexpr int kEveryRounds = 3;
  watch_.ask();
  const auto start = Clock::now();
  for (int count = 0; count < min_rounds || seconds_since(start) < budget_s; ++count) {
    report(0.35 + 0.65 * std::min(1.0, seconds_since(start) / std::max(budget_s, 1e-9)), "measuring");
    const int round = rounds_++;
    bool any = read;
    std::shuffle(subjects.begin(), subjects.end(), random_);
    for (Subject* subject : subjects) {
      if (!subject->alive()) continue;
      any = true;
      if (subject->seldom && round >= kEveryRounds && round % kEveryRounds != 0) continue;
      turn(*subject, round);
      watch_.ask_if_due();
    }
    if (read) {
      if (Status status = bandwidth_turn(); !status.ok()) return status;
      watch_.ask_if_due();
    }
    if (!any) break;
  }
  watch_.ask();
  return {};
}

/// What the cases take beside each other.
std::vector<PairedMedian> Session::paired() const {
  std::vector<const Turns*> turns;
  for (const Subject& subject : subjects_) turns.push_back(&subject.turns);
  return paired_medians(turns, watch_);
}

Status Session::time_all() {
  std::vector<Subject*> all;
  for (Subject& subject : subjects_) all.push_back(&subject);
  if (Status status = time_rounds(all, options_.budget_s, options_.min_rounds, options_.measure_read_bandwidth); !status.ok()) return status;
  if (!(options_.tie_budget_s > 0.0)) return {};
  std::vector<std::optional<bool>> fused;
  for (const Subject& subject : subjects_) {
    const bool candidate = subject.alive() && subject.result.plan;
    fused.push_back(candidate ? std::optional(is_fused(*subject.result.plan)) : std::nullopt);
  }
  std::vector<Subject*> tied;
  for (const std::size_t place : tied_fastest(paired(), fused)) tied.push_back(&subjects_[place]);
  return tied.empty() ? Status{} : time_rounds(tied, options_.tie_budget_s, 0, false);
}

void Session::summarise(Subject& subject) const {
  if (subject.turns.empty()) return;
  const std::vector<double> counted = subject.turns.counted(watch_);
  subject.result.median_s = quantile(counted, 0.5);
  subject.result.p10_s = quantile(counted, 0.1);
  subject.result.p90_s = quantile(counted, 0.9);
  subject.result.samples = static_cast<int>(counted.size());
  subject.result.all_turns_median_s = quantile(subject.turns.all(), 0.5);
}

void Session::pair() {
  const std::vector<PairedMedian> medians = paired();
  for (std::size_t i = 0; i < subjects_.size(); ++i) {
    subjects_[i].result.paired_s = medians[i].seconds;
    subjects_[i].result.paired_ci90_s = medians[i].ci90_s;
  }
}

double Session::share_left_out() const {
  std::size_t all = 0, unsteady = 0;
  for (const Subject& subject : subjects_) {
    all += subject.turns.size();
    unsteady += subject.turns.unsteady(watch_);
  }
  return all > 0 ? static_cast<double>(unsteady) / static_cast<double>(all) : 0.0;
}

MeasureResult Session::finish() {
  MeasureResult result;
  result.device = executor_->device();
  result.threads = executor_->workers();
  result.layers = static_cast<int>(rotation_.layers.size());
  result.layer_bytes = layer_bytes();
  result.huge_pages = executor_->huge_pages(rotation_);
  if (!reads_.empty()) {
    const std::vector<double> reads = reads_.counted(watch_);
    result.read_bandwidth_Bps = layer_bytes() / quantile(reads, 0.5);
    result.read_bandwidth_p10_Bps = layer_bytes() / quantile(reads, 0.9);
    result.read_bandwidth_p90_Bps = layer_bytes() / quantile(reads, 0.1);
  }
  result.turns_left_out = share_left_out();
  pair();
  for (Subject& subject : subjects_) {
    summarise(subject);
    result.cases.push_back(std::move(subject.result));
  }
  report(1.0, "done");
  return result;
}

}  // namespace

std::string label_of(const CaseRequest& request) {
  if (!request.name.empty()) return request.name;
  if (!request.plan) return request.vendor;
  return label(*request.plan) + (request.exact_mask ? ", exact mask" : "");
}

Result<MeasureResult> measure(const Problem& problem, double active, std::span<const CaseRequest> cases,
                              const MeasureOptions& options, const MeasureProgress& progress) try {
  if (Status status = validate(problem); !status.ok()) return status;
  for (const CaseRequest& request : cases) {
    if (request.plan.has_value() != request.vendor.empty()) {
      return invalid_argument("a case is either a plan or a vendor");
    }
    if (request.exact_mask && (!request.plan || (options.executor != nullptr && options.executor->device() != "cpu"))) {
      return invalid_argument("the exact mask is for plans on the CPU");
    }
  }
  Session session(problem, options, progress);
  if (Status status = session.make_layers(active); !status.ok()) return status;
  for (const CaseRequest& request : cases) session.add(request);
  session.check_all();
  session.prepare_rotations();
  if (options.before_timing) {
    if (Status status = options.before_timing(); !status.ok()) return status;
  }
  if (Status status = session.time_all(); !status.ok()) return status;
  return session.finish();
} catch (const std::bad_alloc&) {
  return io_error("not enough memory to measure " + describe(problem));
}

}  // namespace signsplit::tools
