#include "signsplit/activity.hpp"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <string>

#include "first_product.hpp"
#include "signsplit/certificate.hpp"
#include "signsplit/plan.hpp"

namespace signsplit {
namespace {

constexpr std::size_t kBlock = kAccumulators;  // K tiles are whole blocks

/// Rate counters of one thread: whole numbers, so that the order of additions does not matter.
struct Counts {
  std::uint64_t active = 0;
  index_t never_active = 0, always_active = 0;
  std::vector<std::uint64_t> proven, proven_open, executed;  ///< per plane
  std::vector<std::uint64_t> wrong, pushed;  ///< per number of K tiles

  Counts(std::size_t planes, std::size_t tilings) : proven(planes), proven_open(planes), executed(planes), wrong(tilings), pushed(tilings) {}

  void merge(const Counts& other) {
    active += other.active;
    never_active += other.never_active;
    always_active += other.always_active;
    for (std::size_t i = 0; i < proven.size(); ++i) {
      proven[i] += other.proven[i];
      proven_open[i] += other.proven_open[i];
      executed[i] += other.executed[i];
    }
    for (std::size_t i = 0; i < wrong.size(); ++i) {
      wrong[i] += other.wrong[i];
      pushed[i] += other.pushed[i];
    }
  }
};

/// One thread: its counts, and scratch for one unit and all tokens.
struct Worker {
  Counts counts;
  std::vector<double> row, plane;      // [D]
  std::vector<double> z, rough, bound; // [tokens]: z; S·x + b and how far z may be from it
  std::vector<double> blocks;          // [blocks, tokens]: sums of 64 products each

  Worker(const Counts& zero, std::size_t d, std::size_t tokens)
      : counts(zero), row(d), plane(d), z(tokens), rough(tokens), bound(tokens), blocks((d + kBlock - 1) / kBlock * tokens) {}
};

/// One group of weights on a symmetric grid of `bits` bits whose scale is any number; returns the norm of what is left.
/// (What is stored has scales and norms of 16 bits: Certificate.)
double round_to_plane(std::span<const double> weights, index_t bits, std::span<double> plane) {
  double largest = 0.0, residual = 0.0;
  for (const double w : weights) largest = std::max(largest, std::abs(w));
  const double scale = largest / (std::ldexp(1.0, static_cast<int>(bits) - 1) - 1.0);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    plane[i] = scale > 0.0 ? scale * std::nearbyint(weights[i] / scale) : 0.0;
    residual += (weights[i] - plane[i]) * (weights[i] - plane[i]);
  }
  return std::sqrt(residual);
}

/// A certificate, and the tokens as it wants them.
struct Plane {
  CertificateFormat format;
  std::shared_ptr<const Certificate> certificate;
  std::vector<QuantizedQuad> quads;    // [tokens, Dp / 4]
  std::vector<QuantizedGroup> groups;  // [tokens, groups]
  std::vector<QuantizedToken> tokens;

  Plane(CertificateFormat wanted, std::shared_ptr<const Certificate> built, std::span<const float> x, index_t d)
      : format(wanted), certificate(std::move(built)) {
    const PanelLayout layout = certificate->layout();
    const std::size_t count = x.size() / static_cast<std::size_t>(d);
    const auto quads_per_token = static_cast<std::size_t>(layout.columns / 4), groups_per_token = static_cast<std::size_t>(layout.groups());
    quads.resize(count * quads_per_token);
    groups.resize(count * groups_per_token);
    std::vector<float> padded(static_cast<std::size_t>(layout.columns));
    for (std::size_t t = 0; t < count; ++t) {
      std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(t) * d, d, padded.begin());
      tokens.push_back(quantize_token(layout, padded.data(), quads.data() + t * quads_per_token, groups.data() + t * groups_per_token));
    }
  }
};

class Measurement {
 public:
  Measurement(const Weights& weights, std::span<const float> x, index_t tokens, const ActivityOptions& options,
              std::vector<Plane> planes)
      : weights_(weights), options_(options), d_(static_cast<std::size_t>(weights.d_model())),
        tokens_(static_cast<std::size_t>(tokens)), x_(d_ * tokens_),
        threshold_(weights.activation().kind == ActivationKind::fatrelu ? static_cast<double>(weights.activation().threshold)
                                                                        : 0.0),
        planes_(std::move(planes)), counts_(planes_.size(), options.tilings.size()),
        offsets_(static_cast<std::size_t>(weights.d_ff()) * tokens_) {
    for (std::size_t t = 0; t < tokens_; ++t) {
      for (std::size_t k = 0; k < d_; ++k) x_[k * tokens_ + t] = static_cast<double>(x[t * d_ + k]);
    }
    for (const index_t group : options.plane_groups) norms_.push_back(input_norms(static_cast<std::size_t>(group)));
  }

  void run() {
    const int team = options_.threads > 0 ? options_.threads : omp_get_max_threads();
    std::vector<Worker> workers(static_cast<std::size_t>(team), Worker(counts_, d_, tokens_));
#pragma omp parallel for num_threads(team) schedule(dynamic, 16)
    for (index_t j = 0; j < weights_.d_ff(); ++j) add_unit(j, workers[static_cast<std::size_t>(omp_get_thread_num())]);
    for (const Worker& worker : workers) counts_.merge(worker.counts);
  }

  [[nodiscard]] ActivityReport report() {
    ActivityReport report;
    report.units = weights_.d_ff();
    report.tokens = static_cast<index_t>(tokens_);
    report.active = share(counts_.active);
    report.never_active = counts_.never_active;
    report.always_active = counts_.always_active;
    describe_z(report);
    for (std::size_t i = 0; i < planes_.size(); ++i) {
      const double proven = share(counts_.proven[i]), dead = 1.0 - report.active;
      report.planes.push_back({static_cast<int>(planes_[i].format.bits), planes_[i].format.group, proven,
                               dead > 0.0 ? proven / dead : 0.0, dead - proven, share(counts_.proven_open[i]),
                               share(counts_.executed[i])});
    }
    for (std::size_t i = 0; i < options_.tilings.size(); ++i) {
      report.crossings.push_back({options_.tilings[i], share(counts_.wrong[i]), share(counts_.pushed[i])});
    }
    return report;
  }

 private:
  /// ‖x_g‖ of every group of `group` elements. [groups, tokens]
  [[nodiscard]] std::vector<double> input_norms(std::size_t group) const {
    std::vector<double> norms((d_ + group - 1) / group * tokens_);
    for (std::size_t k = 0; k < d_; ++k) {
      for (std::size_t t = 0; t < tokens_; ++t) norms[k / group * tokens_ + t] += x_[k * tokens_ + t] * x_[k * tokens_ + t];
    }
    for (double& norm : norms) norm = std::sqrt(norm);
    return norms;
  }

  /// sums[t] += Σ_k row[k]·x[k, t] over k in [begin, end).
  void add_products(std::span<const double> row, std::size_t begin, std::size_t end, double* sums) const {
    for (std::size_t k = begin; k < end; ++k) {
      const double w = row[k];
      const double* const x = x_.data() + k * tokens_;
      for (std::size_t t = 0; t < tokens_; ++t) sums[t] += w * x[t];
    }
  }

  void add_unit(index_t j, Worker& worker) {
    read_deciding_row(weights_, j, worker.row);
    const double offset = deciding_bias(weights_, j) - threshold_;
    std::fill(worker.blocks.begin(), worker.blocks.end(), 0.0);
    std::fill(worker.z.begin(), worker.z.end(), offset);
    for (std::size_t begin = 0, block = 0; begin < d_; begin += kBlock, ++block) {
      double* const sums = worker.blocks.data() + block * tokens_;
      add_products(worker.row, begin, std::min(begin + kBlock, d_), sums);
      for (std::size_t t = 0; t < tokens_; ++t) worker.z[t] += sums[t];
    }
    std::uint64_t active = 0;
    for (std::size_t t = 0; t < tokens_; ++t) {
      if (worker.z[t] > 0.0) ++active;
      offsets_[static_cast<std::size_t>(j) * tokens_ + t] = static_cast<float>(worker.z[t]);
    }
    worker.counts.active += active;
    if (active == 0) ++worker.counts.never_active;
    if (active == tokens_) ++worker.counts.always_active;
    for (std::size_t i = 0; i < planes_.size(); ++i) add_plane(j, i, offset, worker);
    for (std::size_t i = 0; i < options_.tilings.size(); ++i) add_crossings(i, offset, worker);
  }

  void add_plane(index_t j, std::size_t index, double offset, Worker& worker) const {
    const Plane& plane = planes_[index];
    const auto group = static_cast<std::size_t>(plane.format.group);
    const double* const norms = norms_[index / options_.plane_bits.size()].data();
    std::fill(worker.rough.begin(), worker.rough.end(), offset);
    std::fill(worker.bound.begin(), worker.bound.end(), 0.0);
    for (std::size_t g = 0; g * group < d_; ++g) {
      const std::size_t begin = g * group, size = std::min(group, d_ - begin);
      const double residual = round_to_plane(std::span(worker.row).subspan(begin, size), plane.format.bits,
                                             std::span(worker.plane).subspan(begin, size));
      for (std::size_t t = 0; t < tokens_; ++t) worker.bound[t] += residual * norms[g * tokens_ + t];
    }
    add_products(worker.plane, 0, d_, worker.rough.data());
    for (std::size_t t = 0; t < tokens_; ++t) {
      worker.counts.proven[index] += worker.rough[t] + worker.bound[t] < 0.0 ? 1 : 0;
      worker.counts.proven_open[index] += worker.rough[t] - worker.bound[t] > 0.0 ? 1 : 0;
      worker.counts.executed[index] += plane.certificate->certifies(j, plane.tokens[t]) ? 1 : 0;
    }
  }

  /// The K tiles of plan.k_tile, from the sums of their blocks. The bias (and the threshold) belongs to the first.
  void add_crossings(std::size_t index, double offset, Worker& worker) const {
    const std::size_t blocks = (d_ + kBlock - 1) / kBlock;
    const auto wanted = static_cast<std::size_t>(options_.tilings[index]);
    const std::size_t per_tile = (blocks + wanted - 1) / wanted;
    for (std::size_t t = 0; t < tokens_; ++t) {
      const bool open = worker.z[t] > 0.0;
      bool wrong = false;
      double sum = offset;
      for (std::size_t block = 0; block < blocks; ++block) {
        sum += worker.blocks[block * tokens_ + t];
        if ((block + 1) % per_tile != 0 && block + 1 != blocks) continue;
        if (sum > 0.0) ++worker.counts.pushed[index];
        wrong = wrong || (open ? sum < 0.0 : sum > 0.0);
        sum = 0.0;
      }
      worker.counts.wrong[index] += wrong ? 1 : 0;
    }
  }

  [[nodiscard]] double share(std::uint64_t count) const {
    return static_cast<double>(count) / static_cast<double>(offsets_.size());
  }

  void describe_z(ActivityReport& report) {
    const auto pairs = static_cast<double>(offsets_.size());
    double sum = 0.0, squares = 0.0;
    for (const float z : offsets_) sum += static_cast<double>(z);
    report.z_mean = sum / pairs;
    for (const float z : offsets_) {
      const double distance = static_cast<double>(z) - report.z_mean;
      squares += distance * distance;
    }
    report.z_sigma = std::sqrt(squares / pairs);
    const double sigma = report.z_sigma > 0.0 ? report.z_sigma : 1.0;
    std::sort(offsets_.begin(), offsets_.end());
    for (std::size_t i = 0; i < report.z_quantiles.size(); ++i) {
      const double rank = ActivityReport::kQuantiles[i] * (pairs - 1.0);
      report.z_quantiles[i] = static_cast<double>(offsets_[static_cast<std::size_t>(std::llround(rank))]) / sigma;
    }
    const auto last = static_cast<double>(report.z_histogram.size() - 1);
    std::uint64_t near = 0;
    for (const float z : offsets_) {
      const double ratio = static_cast<double>(z) / sigma;
      if (std::abs(ratio) < 0.1) ++near;
      const double bin = std::floor((ratio - ActivityReport::kFirstBin) / ActivityReport::kBinWidth);
      report.z_histogram[static_cast<std::size_t>(std::clamp(bin, 0.0, last))] += 1.0 / pairs;
    }
    report.near_threshold = share(near);
  }

  const Weights& weights_;
  const ActivityOptions& options_;
  std::size_t d_, tokens_;
  std::vector<double> x_;  // [D, tokens]
  double threshold_;
  std::vector<Plane> planes_;                // groups outer, widths inner
  std::vector<std::vector<double>> norms_;  // per group size
  Counts counts_;
  std::vector<float> offsets_;  // [F, tokens] z − threshold; sorted at the end
};

Status check(const ActivityOptions& options) {
  for (const index_t tiles : options.tilings) {
    if (tiles < 1 || tiles > kMaxExtent) {
      return invalid_argument("the number of K tiles must be 1 or more (got " + std::to_string(tiles) + ")");
    }
  }
  return {};
}

Result<std::vector<Plane>> build_planes(const Weights& weights, std::span<const float> x, const ActivityOptions& options) {
  std::vector<Plane> planes;
  for (const index_t group : options.plane_groups) {
    for (const int bits : options.plane_bits) {
      const CertificateFormat format{bits, group};
      auto certificate = weights.certificate(format);
      if (!certificate) return certificate.status();
      planes.emplace_back(format, *certificate, x, weights.d_model());
    }
  }
  return planes;
}

}  // namespace

Result<ActivityReport> measure_activity(const Weights& weights, std::span<const float> x, index_t tokens,
                                        const ActivityOptions& options) try {
  if (const Status status = check(options); !status) return status;
  if (!closes_units(weights.activation())) {
    return invalid_argument("activation " + to_string(weights.activation(), weights.gated()) +
                            " has no closed units: there is nothing to count, to certify or to push");
  }
  if (tokens < 1) return invalid_argument("activity needs one token or more");
  if (const Status status = check_first_product(weights, x, tokens); !status) return status;
  Result<std::vector<Plane>> planes = build_planes(weights, x, options);
  if (!planes) return planes.status();
  Measurement measurement(weights, x, tokens, options, std::move(*planes));
  measurement.run();
  return measurement.report();
} catch (const std::bad_alloc&) {
  return io_error("not enough memory for the activity of a layer");
}

}  // namespace signsplit
