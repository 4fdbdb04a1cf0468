#include "tools/measure.hpp"

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "core/quantile.hpp"
#include "tools/open_cases.hpp"
#include "tools/turns.hpp"

namespace signsplit::tools {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Timed turns of open cases, and what they say.
class Timing {
 public:
  Timing(OpenCases& cases, const MeasureOptions& options, const MeasureProgress& progress)
      : cases_(cases), options_(options), progress_(progress), turns_(cases.all().size()), watch_(options.still), random_(options.seed) {}

  Status time_all();
  [[nodiscard]] MeasureResult result() const;

 private:
  using Places = std::vector<std::size_t>;

  void turn(std::size_t place, int round);
  Status bandwidth_turn();
  Status time_rounds(Places places, double budget_s, int min_rounds, bool read);
  [[nodiscard]] std::vector<PairedMedian> paired() const;
  void summarise(const Turns& turns, CaseResult& result) const;
  [[nodiscard]] double share_left_out() const;

  OpenCases& cases_;
  const MeasureOptions& options_;
  const MeasureProgress& progress_;
  std::vector<Turns> turns_;  // of every case
  Turns reads_;
  Watch watch_;
  std::mt19937_64 random_;
  int rounds_ = 0;
};

void Timing::turn(std::size_t place, int round) {
  OpenCase& one = cases_.all()[place];
  const Result<double> seconds = cases_.timed_turn(one);
  if (!seconds) return one.fail(seconds.status());
  turns_[place].add(*seconds, watch_, static_cast<std::size_t>(round));
}

Status Timing::bandwidth_turn() {
  const Result<double> seconds = cases_.timed_read();
  if (!seconds) return seconds.status();
  reads_.add(*seconds, watch_, reads_.size());
  return {};
}

/// A, B, C, ..., read probe, B, C, A, ... until the budget is spent. Every round in an order of its own: in one order for all, a case always
/// came after the same other one, and on the same copies of the layer, and two cases of one schedule differed by 1 to 3 % (6 % near the
/// capacity of a cache), which repeating did not show.
Status Timing::time_rounds(Places places, double budget_s, int min_rounds, bool read) {
  constexpr int kEveryRounds = 3;
  watch_.ask();
  const auto start = Clock::now();
  for (int count = 0; count < min_rounds || seconds_since(start) < budget_s; ++count) {
    if (progress_) progress_(0.35 + 0.65 * std::min(1.0, seconds_since(start) / std::max(budget_s, 1e-9)), "measuring");
    const int round = rounds_++;
    bool any = read;
    std::shuffle(places.begin(), places.end(), random_);
    for (const std::size_t place : places) {
      const OpenCase& one = cases_.all()[place];
      if (!one.alive()) continue;
      any = true;
      if (one.seldom && round >= kEveryRounds && round % kEveryRounds != 0) continue;
      turn(place, round);
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
std::vector<PairedMedian> Timing::paired() const {
  std::vector<const Turns*> turns;
  for (const Turns& one : turns_) turns.push_back(&one);
  return paired_medians(turns, watch_);
}

Status Timing::time_all() {
  Places all;
  std::vector<std::optional<bool>> fused;
  for (std::size_t place = 0; place < turns_.size(); ++place) all.push_back(place);
  if (Status status = time_rounds(all, options_.budget_s, options_.min_rounds, options_.measure_read_bandwidth); !status.ok()) return status;
  if (!(options_.tie_budget_s > 0.0)) return {};
  for (const OpenCase& one : cases_.all()) {
    fused.push_back(one.alive() && one.result.plan ? std::optional(is_fused(*one.result.plan)) : std::nullopt);
  }
  const Places tied = tied_fastest(paired(), fused);
  return tied.empty() ? Status{} : time_rounds(tied, options_.tie_budget_s, 0, false);
}

void Timing::summarise(const Turns& turns, CaseResult& result) const {
  if (turns.empty()) return;
  const std::vector<double> counted = turns.counted(watch_);
  result.median_s = quantile(counted, 0.5);
  result.p10_s = quantile(counted, 0.1);
  result.p90_s = quantile(counted, 0.9);
  result.samples = static_cast<int>(counted.size());
  result.all_turns_median_s = quantile(turns.all(), 0.5);
}

double Timing::share_left_out() const {
  std::size_t all = 0, unsteady = 0;
  for (const Turns& turns : turns_) {
    all += turns.size();
    unsteady += turns.unsteady(watch_);
  }
  return all > 0 ? static_cast<double>(unsteady) / static_cast<double>(all) : 0.0;
}

MeasureResult Timing::result() const {
  MeasureResult result;
  result.device = cases_.executor().device();
  result.threads = cases_.executor().workers();
  result.layers = static_cast<int>(cases_.rotation().layers.size());
  result.layer_bytes = cases_.layer_bytes();
  result.huge_pages = cases_.executor().huge_pages(cases_.rotation());
  if (!reads_.empty()) {
    const std::vector<double> reads = reads_.counted(watch_);
    result.read_bandwidth_Bps = result.layer_bytes / quantile(reads, 0.5);
    result.read_bandwidth_p10_Bps = result.layer_bytes / quantile(reads, 0.9);
    result.read_bandwidth_p90_Bps = result.layer_bytes / quantile(reads, 0.1);
  }
  result.turns_left_out = share_left_out();
  const std::vector<PairedMedian> medians = paired();
  for (std::size_t place = 0; place < turns_.size(); ++place) {
    CaseResult& one = result.cases.emplace_back(cases_.all()[place].result);
    summarise(turns_[place], one);
    one.paired_s = medians[place].seconds;
    one.paired_ci90_s = medians[place].ci90_s;
  }
  return result;
}

Status check_requests(std::span<const CaseRequest> cases, const MeasureOptions& options) {
  for (const CaseRequest& request : cases) {
    if (request.plan.has_value() != request.vendor.empty()) return invalid_argument("a case is either a plan or a vendor");
    if (request.exact_mask && (!request.plan || (options.executor != nullptr && options.executor->device() != "cpu"))) {
      return invalid_argument("the exact mask is for plans on the CPU");
    }
  }
  return {};
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
  if (Status status = check_requests(cases, options); !status.ok()) return status;
  OpenCases open(problem, options, progress);
  if (Status status = open.open(active, cases); !status.ok()) return status;
  for (;;) {
    if (options.before_timing) {
      if (Status status = options.before_timing(); !status.ok()) return status;
    }
    Timing timing(open, options, progress);
    if (Status status = timing.time_all(); !status.ok()) return status;
    MeasureResult result = timing.result();
    if (options.again && options.again(result)) continue;
    if (progress) progress(1.0, "done");
    return result;
  }
} catch (const std::bad_alloc&) {
  return io_error("not enough memory to measure " + describe(problem));
}

}  // namespace signsplit::tools
