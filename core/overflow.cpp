#include "signsplit/overflow.hpp"

#include <omp.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <new>

#include "first_product.hpp"

namespace signsplit {
namespace {

constexpr double kLargestQ = 127.0;

struct Kind {
  std::string_view name;
  double limit;
};
// A binary16 holds 65504 at most; whole numbers, all of them, up to 2^11.
constexpr std::array<Kind, 1> kRealKinds{{{"fp16", 65504.0}}};
constexpr std::array<Kind, 4> kIntegerKinds{
    {{"fp16", 2048.0}, {"int16", 32767.0}, {"int24", 8388607.0}, {"int32", 2147483647.0}}};

/// Quantized to [−127, 127]: symmetric, to nearest even. A row of zeros stays one.
void quantize(std::span<const double> from, std::span<double> to) {
  double largest = 0.0;
  for (const double value : from) largest = std::max(largest, std::abs(value));
  for (std::size_t k = 0; k < from.size(); ++k) to[k] = largest > 0.0 ? std::nearbyint(from[k] * (kLargestQ / largest)) : 0.0;
}

/// Running sums of non-negative terms: prefix[k] is the sum of the first k.
using Prefix = std::vector<double>;

/// Shortens `safe` until no window of that many terms exceeds the limit. Terms are ≥ 0, so a window that fits holds only
/// windows that fit: those that were passed with a longer `safe` need no second look.
void shorten(const Prefix& prefix, double limit, index_t& safe) {
  const auto terms = static_cast<index_t>(prefix.size()) - 1;
  for (index_t i = 0; i + safe <= terms; ++i) {
    const double start = prefix[static_cast<std::size_t>(i)];
    while (safe > 0 && prefix[static_cast<std::size_t>(i + safe)] - start > limit) --safe;
  }
}

/// One view while it is measured: maxima and minima only, so that the order of rows and threads does not matter.
struct Extent {
  double worst = 0.0, p = 0.0, n = 0.0, z = 0.0;
  std::vector<index_t> tile_worst, tile_observed;

  Extent(std::size_t kinds, index_t d) : tile_worst(kinds, d), tile_observed(kinds, d) {}

  void merge(const Extent& other) {
    worst = std::max(worst, other.worst);
    p = std::max(p, other.p);
    n = std::max(n, other.n);
    z = std::max(z, other.z);
    for (std::size_t i = 0; i < tile_worst.size(); ++i) {
      tile_worst[i] = std::min(tile_worst[i], other.tile_worst[i]);
      tile_observed[i] = std::min(tile_observed[i], other.tile_observed[i]);
    }
  }
};

struct Sums {
  double p = 0.0, n = 0.0;
};

struct Scratch {
  Prefix positive, negative;
  explicit Scratch(std::size_t d) : positive(d + 1), negative(d + 1) {}
};

void worst_case(std::span<const double> row, double x_bound, std::span<const Kind> kinds, Scratch& scratch, Extent& extent) {
  double sum = 0.0;
  for (std::size_t k = 0; k < row.size(); ++k) scratch.positive[k + 1] = sum += std::abs(row[k]) * x_bound;
  extent.worst = std::max(extent.worst, sum);
  for (std::size_t i = 0; i < kinds.size(); ++i) shorten(scratch.positive, kinds[i].limit, extent.tile_worst[i]);
}

Sums observe(std::span<const double> row, std::span<const double> x, std::span<const Kind> kinds, Scratch& scratch,
             Extent& extent) {
  double p = 0.0, n = 0.0, z_reach = 0.0;
  for (std::size_t k = 0; k < row.size(); ++k) {
    const double term = row[k] * x[k];
    scratch.positive[k + 1] = p += std::max(term, 0.0);
    scratch.negative[k + 1] = n += std::max(-term, 0.0);
    z_reach = std::max(z_reach, std::abs(p - n));
  }
  extent.p = std::max(extent.p, p);
  extent.n = std::max(extent.n, n);
  extent.z = std::max(extent.z, z_reach);
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    if (p > kinds[i].limit) shorten(scratch.positive, kinds[i].limit, extent.tile_observed[i]);
    if (n > kinds[i].limit) shorten(scratch.negative, kinds[i].limit, extent.tile_observed[i]);
  }
  return {p, n};
}

/// How much of P and N is left in z: a histogram, so that threads can add theirs up.
struct Cancellation {
  static constexpr int kPerBit = 8, kBins = 64 * kPerBit;
  std::array<std::uint64_t, kBins> bins{};
  std::uint64_t pairs = 0, doubt_fp16 = 0, doubt_bf16 = 0;

  void add(const Sums& sums) {
    const double mass = sums.p + sums.n, z = std::abs(sums.p - sums.n);
    ++pairs;
    if (z <= 0x1p-11 * mass) ++doubt_fp16;
    if (z <= 0x1p-8 * mass) ++doubt_bf16;
    const double bits = mass == 0.0 ? 0.0 : z == 0.0 ? kBins : std::log2(mass / z);
    const double bin = std::min(bits * kPerBit, static_cast<double>(kBins - 1));
    ++bins[static_cast<std::size_t>(bin)];
  }
  void merge(const Cancellation& other) {
    for (std::size_t i = 0; i < bins.size(); ++i) bins[i] += other.bins[i];
    pairs += other.pairs;
    doubt_fp16 += other.doubt_fp16;
    doubt_bf16 += other.doubt_bf16;
  }
  [[nodiscard]] double quantile(double fraction) const {
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < bins.size(); ++i) {
      seen += bins[i];
      if (seen > 0 && static_cast<double>(seen) >= fraction * static_cast<double>(pairs)) {
        return static_cast<double>(i) / kPerBit;
      }
    }
    return 0.0;
  }
  [[nodiscard]] double share(std::uint64_t count) const {
    return pairs == 0 ? 0.0 : static_cast<double>(count) / static_cast<double>(pairs);
  }
};

/// What one thread measures, and its scratch.
struct Worker {
  Extent real, integer;
  Cancellation cancellation;
  Scratch scratch;
  std::vector<double> row, rowq;  // [D]: the unit's weights as they are, and quantized

  explicit Worker(index_t d)
      : real(kRealKinds.size(), d), integer(kIntegerKinds.size(), d), scratch(static_cast<std::size_t>(d)),
        row(static_cast<std::size_t>(d)), rowq(static_cast<std::size_t>(d)) {}
};

class Analysis {
 public:
  Analysis(const Weights& weights, std::span<const float> x, index_t tokens, double x_bound)
      : weights_(weights), d_(static_cast<std::size_t>(weights.d_model())), tokens_(static_cast<std::size_t>(tokens)),
        x_bound_(x_bound), x_(x.begin(), x.end()), xq_(x.size()) {
    for (std::size_t t = 0; t < tokens_; ++t) quantize(token(x_, t), std::span(xq_).subspan(t * d_, d_));
  }

  void run(int threads) {
    const int team = threads > 0 ? threads : omp_get_max_threads();
    std::vector<Worker> workers(static_cast<std::size_t>(team), Worker(weights_.d_model()));
#pragma omp parallel for num_threads(team) schedule(dynamic, 16)
    for (index_t j = 0; j < weights_.d_ff(); ++j) add_unit(j, workers[static_cast<std::size_t>(omp_get_thread_num())]);
    for (const Worker& worker : workers) {
      real_.merge(worker.real);
      integer_.merge(worker.integer);
      cancellation_.merge(worker.cancellation);
    }
  }

  [[nodiscard]] OverflowReport report() const {
    OverflowReport report;
    report.tokens = static_cast<index_t>(tokens_);
    report.real = view(real_, x_bound_, kRealKinds);
    report.w8a8 = view(integer_, kLargestQ, kIntegerKinds);
    report.cancelled_bits_median = cancellation_.quantile(0.5);
    report.cancelled_bits_p99 = cancellation_.quantile(0.99);
    report.sign_in_doubt_fp16 = cancellation_.share(cancellation_.doubt_fp16);
    report.sign_in_doubt_bf16 = cancellation_.share(cancellation_.doubt_bf16);
    return report;
  }

 private:
  void add_unit(index_t j, Worker& worker) const {
    read_deciding_row(weights_, j, worker.row);
    quantize(worker.row, worker.rowq);
    worst_case(worker.row, x_bound_, kRealKinds, worker.scratch, worker.real);
    worst_case(worker.rowq, kLargestQ, kIntegerKinds, worker.scratch, worker.integer);
    for (std::size_t t = 0; t < tokens_; ++t) {
      worker.cancellation.add(observe(worker.row, token(x_, t), kRealKinds, worker.scratch, worker.real));
      observe(worker.rowq, token(xq_, t), kIntegerKinds, worker.scratch, worker.integer);
    }
  }

  [[nodiscard]] std::span<const double> token(const std::vector<double>& matrix, std::size_t t) const {
    return std::span(matrix).subspan(t * d_, d_);
  }

  [[nodiscard]] OverflowView view(const Extent& extent, double x_bound, std::span<const Kind> kinds) const {
    const auto range = [&](double observed) {
      return SumRange{extent.worst, tokens_ > 0 ? std::optional(observed) : std::nullopt};
    };
    OverflowView view{x_bound, range(extent.p), range(extent.n), range(extent.z), {}};
    for (std::size_t i = 0; i < kinds.size(); ++i) {
      const double limit = kinds[i].limit;
      view.accumulators.push_back({kinds[i].name, limit, extent.worst <= limit, std::max(extent.p, extent.n) <= limit,
                                   extent.z <= limit, extent.tile_worst[i], extent.tile_observed[i]});
    }
    return view;
  }

  const Weights& weights_;
  std::size_t d_, tokens_;
  double x_bound_;
  std::vector<double> x_, xq_;  // [tokens, D]: as given, and quantized per token
  Extent real_{kRealKinds.size(), weights_.d_model()}, integer_{kIntegerKinds.size(), weights_.d_model()};
  Cancellation cancellation_;
};

}  // namespace

int accumulator_bits(double magnitude) noexcept {
  int bits = 1;
  while (std::ldexp(1.0, bits - 1) - 1.0 < magnitude) ++bits;
  return bits;
}

Result<OverflowReport> analyse_overflow(const Weights& weights, std::span<const float> x, index_t tokens, double x_bound,
                                        int threads) try {
  if (const Status status = check_first_product(weights, x, tokens); !status) return status;
  if (!(x_bound >= 0.0) || !std::isfinite(x_bound)) return invalid_argument("x_bound must be a finite number, 0 or more");
  if (x_bound == 0.0 && tokens == 0) return invalid_argument("without inputs, a bound on |x| is needed");
  if (x_bound == 0.0) {
    for (const float value : x) x_bound = std::max(x_bound, std::abs(static_cast<double>(value)));
  }
  Analysis analysis(weights, x, tokens, x_bound);
  analysis.run(threads);
  return analysis.report();
} catch (const std::bad_alloc&) {
  return io_error("not enough memory for the overflow analysis");
}

}  // namespace signsplit
