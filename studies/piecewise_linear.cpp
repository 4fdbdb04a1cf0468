// Piecewise-linear activations: how many segments GELU needs, and how often K tiling picks the wrong one.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "studies/study.hpp"

namespace signsplit::studies {
namespace {

constexpr double kEdge = 8.0;         // beyond it GELU is 0 or z, to 1e-14
constexpr double kUniformEdge = 4.0;  // equal segments lie within; the two outer ones, 0 and z, begin there

double gelu(double z) { return 0.5 * z * std::erfc(-z / std::numbers::sqrt2); }

struct Line {
  double slope = 0, intercept = 0, error = 0;
};

struct Pieces {
  std::vector<double> knots;  // between lines, ascending: one fewer than lines
  std::vector<Line> lines;

  [[nodiscard]] std::size_t segment(double z) const {
    return static_cast<std::size_t>(std::upper_bound(knots.begin(), knots.end(), z) - knots.begin());
  }
  [[nodiscard]] double value(double z) const {
    const Line& line = lines[segment(z)];
    return line.slope * z + line.intercept;
  }
};

/// GELU at equally spaced points of [−kEdge, kEdge].
class Samples {
 public:
  explicit Samples(int count) : count_(count) {
    for (int i = 0; i < count; ++i) f_.push_back(gelu(z(i)));
  }

  [[nodiscard]] int count() const { return count_; }
  [[nodiscard]] double z(int i) const { return -kEdge + 2.0 * kEdge * i / (count_ - 1); }
  [[nodiscard]] int index(double z) const { return static_cast<int>(std::lround((z + kEdge) / (2.0 * kEdge) * (count_ - 1))); }

  /// Largest distance of the pieces to GELU.
  [[nodiscard]] double error_of(const Pieces& pieces) const {
    double worst = 0;
    for (int i = 0; i < count_; ++i) worst = std::max(worst, std::abs(pieces.value(z(i)) - f_[static_cast<std::size_t>(i)]));
    return worst;
  }

  /// The line of least maximal error over the points [begin, end). The spread of f − slope·z is convex in the slope.
  [[nodiscard]] Line best_line(int begin, int end) const {
    double low = -0.3, high = 1.3;  // GELU's derivative lies between
    for (int step = 0; step < 40; ++step) {
      const double a = low + (high - low) / 3.0, b = high - (high - low) / 3.0;
      if (through(begin, end, a).error < through(begin, end, b).error) {
        high = b;
      } else {
        low = a;
      }
    }
    return through(begin, end, 0.5 * (low + high));
  }

 private:
  [[nodiscard]] Line through(int begin, int end, double slope) const {
    double least = std::numeric_limits<double>::infinity(), most = -least;
    for (int i = begin; i < end; ++i) {
      const double rest = f_[static_cast<std::size_t>(i)] - slope * z(i);
      least = std::min(least, rest);
      most = std::max(most, rest);
    }
    return {slope, 0.5 * (least + most), 0.5 * (most - least)};
  }

  int count_;
  std::vector<double> f_;
};

/// As few segments as an error permits: each as long as can be. Lines need not meet at the knots.
Pieces greedy(const Samples& samples, double error, std::size_t limit) {
  Pieces pieces;
  for (int begin = 0; begin < samples.count() && pieces.lines.size() <= limit;) {
    int good = begin + 1, bad = samples.count() + 1;
    while (bad - good > 1) {
      const int middle = good + (bad - good) / 2;
      (samples.best_line(begin, middle).error <= error ? good : bad) = middle;
    }
    if (begin > 0) pieces.knots.push_back(samples.z(begin));
    pieces.lines.push_back(samples.best_line(begin, good));
    begin = good;
  }
  return pieces;
}

/// The least maximal error that `segments` lines reach, by bisection over what the greedy choice needs.
Pieces minimax(const Samples& samples, std::size_t segments) {
  double low = 0.0, high = 0.3;
  Pieces best = greedy(samples, high, segments);
  for (int step = 0; step < 16; ++step) {
    const double middle = 0.5 * (low + high);
    Pieces pieces = greedy(samples, middle, segments);
    if (pieces.lines.size() > segments) {
      low = middle;
    } else {
      high = middle;
      best = std::move(pieces);
    }
  }
  return best;
}

Pieces uniform(const Samples& samples, std::size_t segments) {
  Pieces pieces;
  for (std::size_t i = 0; i + 1 < segments; ++i) {
    pieces.knots.push_back(-kUniformEdge + 2.0 * kUniformEdge * static_cast<double>(i) / static_cast<double>(segments - 2));
  }
  int begin = 0;
  for (std::size_t i = 0; i < segments; ++i) {
    const int end = i + 1 < segments ? samples.index(pieces.knots[i]) : samples.count();
    pieces.lines.push_back(samples.best_line(begin, end));
    begin = end;
  }
  return pieces;
}

/// Sums of z over the first 1, 2, … K tiles (bias in the first), for one unit and token. K tiles of whole 64-element blocks.
class PrefixSums {
 public:
  PrefixSums(const Layer& layer, std::size_t tiles)
      : layer_(layer), tile_(round_up(ceil_div(layer.weights.d_model(), static_cast<index_t>(tiles)), 64)),
        sums_(static_cast<std::size_t>(ceil_div(layer.weights.d_model(), tile_))) {}

  std::span<const double> of(index_t token, index_t j) {
    const Weights& weights = layer_.weights;
    const std::span<const float> bias = weights.gated() ? weights.gate_bias() : weights.up_bias();
    double sum = bias.empty() ? 0.0 : static_cast<double>(bias[static_cast<std::size_t>(j)]);
    for (index_t k = 0; k < weights.d_model(); ++k) {
      const float w = weights.gated() ? weights.gate_at(j, k) : weights.up_at(j, k);
      sum += static_cast<double>(w) * static_cast<double>(layer_.x[static_cast<std::size_t>(token * weights.d_model() + k)]);
      sums_[static_cast<std::size_t>(k / tile_)] = sum;
    }
    return sums_;
  }

 private:
  const Layer& layer_;
  index_t tile_;
  std::vector<double> sums_;
};

struct Crossings {
  double pairs = 0, crossed = 0, outside_two = 0, error = 0, size = 0;

  /// A tile is pushed with the slope of the segment in which the sum so far lies; the intercept is that of the last.
  void add(const Pieces& pieces, std::span<const double> sums) {
    const double z = sums.back(), first = sums.front();
    const std::size_t last = pieces.segment(z), chosen = pieces.segment(first);
    bool wrong = false;
    double pushed = pieces.lines[last].intercept, before = 0.0;
    for (const double sum : sums) {
      const std::size_t segment = pieces.segment(sum);
      wrong = wrong || segment != last;
      pushed += pieces.lines[segment].slope * (sum - before);
      before = sum;
    }
    pairs += 1;
    if (wrong) crossed += 1;
    if (last != chosen && last != neighbour(pieces, chosen, first)) outside_two += 1;
    error += (pushed - pieces.value(z)) * (pushed - pieces.value(z));
    size += pieces.value(z) * pieces.value(z);
  }

 private:
  /// The segment beside `chosen` that is nearer to z: the second set of tiles.
  static std::size_t neighbour(const Pieces& pieces, std::size_t chosen, double z) {
    if (chosen == 0) return 1;
    if (chosen == pieces.knots.size()) return chosen - 1;
    return z - pieces.knots[chosen - 1] < pieces.knots[chosen] - z ? chosen - 1 : chosen + 1;
  }
};

void examine(const Layer& layer, const std::vector<Pieces>& tables, const Settings& settings, Findings& findings) {
  const index_t tokens = std::min<index_t>(layer.tokens, settings.small ? 2 : 16);
  for (const std::size_t tiles : {2u, 4u, 8u}) {
    PrefixSums prefix(layer, tiles);
    std::vector<Crossings> crossings(tables.size());
    for (index_t token = 0; token < tokens; ++token) {
      for (index_t j = 0; j < layer.weights.d_ff(); ++j) {
        const std::span<const double> sums = prefix.of(token, j);
        for (std::size_t i = 0; i < tables.size(); ++i) crossings[i].add(tables[i], sums);
      }
    }
    for (std::size_t i = 0; i < tables.size(); ++i) {
      const Crossings& c = crossings[i];
      const auto count = static_cast<double>(tiles);
      const double crossed = c.crossed / c.pairs;
      findings.tables[1].rows.push_back({layer.name, static_cast<double>(tables[i].lines.size()), count, crossed,
                                         c.outside_two / c.pairs, std::sqrt(c.error / c.size),
                                         (1.0 + crossed + count + crossed) / 2.0});
    }
  }
}

Result<Findings> run(const Settings& settings) {
  Findings findings{{{"segments", {"segments", "minimax error", "error of equal segments"}},
                     {"crossings",
                      {"layer", "segments", "K tiles", "units that cross", "outside two sets", "relative error of h, ignored",
                       "re-do: weight bytes / row_fused"}}},
                    {"Piecewise-linear GELU: largest error", "segments", "error", true, true}};
  const Samples samples(settings.small ? 2001 : 16001);
  Series least{"minimax"}, equal{"equal segments"};
  std::vector<Pieces> tables;
  for (const std::size_t segments : {4u, 8u, 16u, 32u, 64u}) {
    Pieces best = minimax(samples, segments);
    const double error = samples.error_of(best), equal_error = samples.error_of(uniform(samples, segments));
    findings.tables[0].rows.push_back({static_cast<double>(segments), error, equal_error});
    least.points.emplace_back(static_cast<double>(segments), error);
    equal.points.emplace_back(static_cast<double>(segments), equal_error);
    if (segments <= 32) tables.push_back(std::move(best));
  }
  findings.plot.series = {std::move(least), std::move(equal)};
  for (const Layer& layer : settings.layers) examine(layer, tables, settings, findings);
  return findings;
}

}  // namespace

Study piecewise_linear() {
  return {"piecewise_linear", "Can activations be made of lines, and K tiles be sent through them at once?", run};
}

}  // namespace signsplit::studies
