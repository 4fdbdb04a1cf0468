// error_bound(): docs/exactness.md derives what is computed here, with the same names.
#include <omp.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <new>
#include <string>

#include "approximate.hpp"
#include "signsplit/reference.hpp"
#include "signsplit/walk.hpp"

namespace signsplit {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kInflation = 1.0 + 0x1p-20;  // for the roundings of the bound's own evaluation: below 2^-24 of it
constexpr index_t kColumnBlock = 512;

// Of one K tile of one row, in double: Σ x·w, and Σ |x·w|; the bias is in the first tile.
struct TileSum {
  double z = 0.0, s = 0.0;
};

// What one unit puts on its row of W2: the sum of it all is within `error` of the real h, and the magnitudes of the
// coefficients add up to at most `mass`.
struct UnitBound {
  double error = 0.0, mass = 0.0;
};

// Memory of one thread, allocated before the threads start.
struct Scratch {
  std::vector<float> row;
  std::vector<TileSum> gate, up;
};

// Eight independent sums each: the compiler keeps them in registers. Any order would do.
TileSum tile_sum(std::span<const float> x, std::span<const float> w) {
  std::array<double, 8> z{}, s{};
  for (std::size_t k = 0; k < x.size(); ++k) {
    const double product = static_cast<double>(x[k]) * static_cast<double>(w[k]);
    z[k % 8] += product;
    s[k % 8] += std::abs(product);
  }
  TileSum sum;
  for (std::size_t i = 0; i < 8; ++i) sum = {sum.z + z[i], sum.s + s[i]};
  return sum;
}

TileSum total(std::span<const TileSum> tiles) {
  TileSum sum;
  for (const TileSum& tile : tiles) sum = {sum.z + tile.z, sum.s + tile.s};
  return sum;
}

class ErrorBound {
 public:
  ErrorBound(const Plan& plan, const Weights& weights)
      : plan_(plan), weights_(weights), shape_(walk_shape(weights.problem())), activation_(weights.activation()),
        split_(plan.strategy == Strategy::sign_split), tiles_(split_ ? k_tile_count(plan, shape_) : 1),
        tile_chain_((split_ ? k_range(plan, shape_, 0).size() : shape_.d_padded) / kAccumulators + 7),
        z_chain_(shape_.d_padded / kAccumulators + 7 + (split_ ? tiles_ + 1 : 0)),
        units_(static_cast<std::size_t>(shape_.d_ff)), threads_(omp_get_max_threads()) {
    const auto d = static_cast<std::size_t>(weights.d_model()), tiles = static_cast<std::size_t>(tiles_);
    const Scratch scratch{std::vector<float>(d), std::vector<TileSum>(tiles), std::vector<TileSum>(tiles)};
    scratch_.assign(static_cast<std::size_t>(threads_), scratch);
  }

  void compute(std::span<const float> x, std::span<double> bound) {
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 16)
    for (index_t j = 0; j < shape_.d_ff; ++j) {
      units_[static_cast<std::size_t>(j)] = unit_bound(x, j, scratch_[static_cast<std::size_t>(omp_get_thread_num())]);
    }
    const index_t d = weights_.d_model();
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1)
    for (index_t begin = 0; begin < d; begin += kColumnBlock) {
      const index_t count = std::min(kColumnBlock, d - begin);
      output_bounds(begin, bound.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)));
    }
  }

 private:
  // ---- product 1 ----

  void sum_tiles(std::span<const float> x, Matrix matrix, std::span<const float> bias, index_t j,
                 std::vector<float>& row, std::vector<TileSum>& tiles) const {
    weights_.read_row(matrix, j, 0, row);
    const auto d = static_cast<index_t>(x.size());
    for (index_t t = 0; t < tiles_; ++t) {
      const KRange k = split_ ? k_range(plan_, shape_, t) : KRange{0, shape_.d_padded};
      const auto begin = static_cast<std::size_t>(k.begin), size = static_cast<std::size_t>(std::min(k.end, d) - k.begin);
      tiles[static_cast<std::size_t>(t)] = tile_sum(x.subspan(begin, size), std::span<const float>(row).subspan(begin, size));
    }
    if (bias.empty()) return;
    const auto b = static_cast<double>(bias[static_cast<std::size_t>(j)]);
    tiles[0] = {tiles[0].z + b, tiles[0].s + std::abs(b)};
  }

  // A sum of products evaluated with at most `chain` roundings per term.
  [[nodiscard]] Approximate sum(const TileSum& s, index_t chain) const {
    const auto terms = static_cast<double>(shape_.d_padded + kAccumulators);
    return {s.z, terms * kRoundoff64 * s.s, gamma(chain) * s.s + terms * kUnderflow32};
  }
  [[nodiscard]] Approximate tile(const TileSum& s) const { return sum(s, tile_chain_); }
  [[nodiscard]] Approximate whole(const TileSum& s) const { return sum(s, z_chain_); }

  // ---- what a unit adds to y ----

  UnitBound unit_bound(std::span<const float> x, index_t j, Scratch& scratch) const {
    sum_tiles(x, Matrix::up, weights_.up_bias(), j, scratch.row, scratch.up);
    const TileSum up = total(scratch.up);
    TileSum gate;
    if (weights_.gated()) {
      sum_tiles(x, Matrix::gate, weights_.gate_bias(), j, scratch.row, scratch.gate);
      gate = total(scratch.gate);
    }
    if (!(up.s <= kLargest && gate.s <= kLargest)) return {kInfinity, kInfinity};  // overflow, infinities, NaN
    const Approximate h = hidden(gate, up);
    UnitBound bound = !split_ ? UnitBound{h.error, h.largest()} : split_bound(scratch, j, h, whole(up));
    if (!(bound.mass <= kLargest)) bound = {kInfinity, kInfinity};
    return bound;
  }

  [[nodiscard]] Approximate hidden(const TileSum& gate, const TileSum& up) const {
    return weights_.gated() ? activate_gated(activation_, whole(gate), whole(up)) : activate(activation_, whole(up));
  }

  [[nodiscard]] UnitBound split_bound(const Scratch& scratch, index_t j, const Approximate& h,
                                      const Approximate& z) const {
    switch (plan_.variant) {
      case Variant::interim: return interim_bound(scratch.up, h, z);
      case Variant::streams: return streams_bound(scratch.up, j, z);
      case Variant::telescoping: return telescoping_bound(scratch, h);
      case Variant::ignore: return ignore_bound(scratch.up, h);
      case Variant::none: break;
    }
    return {kInfinity, kInfinity};
  }

  // A repaired unit: `pushed` bounds Σ|c_t|, `repair` the correction. u is summed with a chain of at most T roundings, the
  // correction h − u rounded once.
  [[nodiscard]] UnitBound repaired(const Approximate& h, double pushed, double repair) const {
    const double sums = gamma(tiles_ + 1) * pushed;
    return {h.error + sums + 2.0 * kRoundoff32 * (h.largest() + 2.0 * pushed), pushed + repair * (1.0 + 4.0 * kRoundoff32) + sums};
  }

  [[nodiscard]] UnitBound interim_bound(std::span<const TileSum> tiles, const Approximate& h, const Approximate& z) const {
    double pushed = 0.0, value = 0.0, reach = 0.0;
    for (const TileSum& t : tiles) {
      const Approximate push = activate(activation_, tile(t));
      pushed += push.largest();
      value += push.value;
      reach += push.reach();
    }
    const double in_doubt = h.is_zero() ? 0.0 : z.reach();
    return repaired(h, pushed, std::abs(h.value - value) + reach + 2.0 * h.reach() + 2.0 * in_doubt);
  }

  [[nodiscard]] UnitBound ignore_bound(std::span<const TileSum> tiles, const Approximate& h) const {
    double pushed = 0.0, value = 0.0, reach = 0.0;
    for (const TileSum& t : tiles) {
      const Approximate push = activate(activation_, tile(t));
      pushed += push.largest();
      value += push.value;
      reach += push.reach();
    }
    return {std::abs(value - h.value) + reach + h.slack + kRoundoff64 * static_cast<double>(tiles_) * pushed, pushed};
  }

  // The streams P ≥ 0 and N ≤ 0 of the tiles. Whether |b| is in the stream of tile 0 is left open: both are covered.
  [[nodiscard]] UnitBound streams_bound(std::span<const TileSum> tiles, index_t j, Approximate z) const {
    double pushed = 0.0, positive = 0.0, negative = 0.0;
    for (const TileSum& t : tiles) {
      const Approximate sum = tile(t);
      const double margin = sum.reach() + 2.0 * kRoundoff32 * t.s + kUnderflow32;
      const double p = std::max(0.5 * (t.s + t.z), 0.0) + margin;
      positive += p;
      negative += 0.5 * (t.s - t.z) + 2.0 * margin;
      pushed += activate(activation_, Approximate{p, 0.0, 0.0}).largest();
    }
    const auto bias = weights_.up_bias();
    if (!bias.empty()) negative += 0.5 * std::abs(static_cast<double>(bias[static_cast<std::size_t>(j)]));
    z.error += gamma(tiles_ + 2) * (positive + negative);  // z may be summed as P + N
    const Approximate h = activate(activation_, z);
    const bool linear = activation_.kind == ActivationKind::relu || activation_.kind == ActivationKind::identity;
    const bool open = linear && (activation_.kind == ActivationKind::identity || z.surely_above(0.0));
    UnitBound bound = repaired(h, pushed, open ? negative + z.reach() : h.largest() + pushed);
    bound.error += gamma(tiles_ + 1) * (h.is_zero() ? 0.0 : negative);
    return bound;
  }

  [[nodiscard]] UnitBound telescoping_bound(const Scratch& scratch, const Approximate& h) const {
    double pushed = 0.0;
    Approximate last;
    TileSum gate, up;
    for (std::size_t t = 0; t < scratch.up.size(); ++t) {
      up = {up.z + scratch.up[t].z, up.s + scratch.up[t].s};
      gate = {gate.z + scratch.gate[t].z, gate.s + scratch.gate[t].s};
      const Approximate now = hidden(gate, up);
      pushed += (std::abs(now.value - last.value) + now.reach() + last.reach()) * (1.0 + 2.0 * kRoundoff32);
      last = now;
    }
    return repaired(h, pushed, 2.0 * (h.reach() + last.reach()));  // only a unit in doubt is corrected
  }

  // ---- product 2 ----

  void output_bounds(index_t begin, std::span<double> bound) const {
    std::array<float, kColumnBlock> storage;
    std::array<double, kColumnBlock> mass{};
    const std::span<float> row(storage.data(), bound.size());
    std::fill(bound.begin(), bound.end(), 0.0);
    for (index_t j = 0; j < shape_.d_ff; ++j) {
      const UnitBound& unit = units_[static_cast<std::size_t>(j)];
      if (unit.error == 0.0 && unit.mass == 0.0 && !weights_.down_row_nonfinite(j)) continue;
      weights_.read_row(Matrix::down, j, begin, row);
      for (std::size_t c = 0; c < row.size(); ++c) {
        const double weight = std::abs(static_cast<double>(row[c]));
        bound[c] += unit.error * weight;
        mass[c] += unit.mass * weight;
      }
    }
    const index_t additions = split_ ? tiles_ + 1 : 1;  // FMAs per unit and output
    const index_t part = part_range(plan_, shape_, 0).size();
    const auto tree = static_cast<index_t>(std::bit_width(static_cast<std::uint64_t>(plan_.parts - 1)));
    const double relative = gamma(part * additions + tree + 2);
    const double underflow = static_cast<double>(shape_.d_ff * additions) * kUnderflow32;
    const auto bias = weights_.down_bias();
    for (std::size_t c = 0; c < row.size(); ++c) {
      if (!bias.empty()) mass[c] += std::abs(static_cast<double>(bias[static_cast<std::size_t>(begin) + c]));
      const double value = (bound[c] + relative * mass[c] + underflow) * kInflation;
      bound[c] = mass[c] <= kLargest && value <= kLargest ? value : kInfinity;  // a NaN fails both
    }
  }

  Plan plan_;
  const Weights& weights_;
  WalkShape shape_;
  Activation activation_;
  bool split_;
  index_t tiles_;       // T: K tiles with sums of their own
  index_t tile_chain_;  // roundings that a product meets in a tile's sum: FMAs, 6 of the tree, the bias
  index_t z_chain_;     // ... in z, by whichever way z is summed
  std::vector<UnitBound> units_;
  int threads_;
  std::vector<Scratch> scratch_;
};

}  // namespace

Result<std::vector<double>> error_bound(const Plan& plan, const Weights& weights, std::span<const float> x,
                                        index_t batch) try {
  const Problem problem = weights.problem(batch);
  if (Status status = validate(problem); !status) return status;
  if (Status status = validate(plan, problem); !status) return status;
  const auto d = static_cast<std::size_t>(weights.d_model()), tokens = static_cast<std::size_t>(batch);
  if (x.size() != tokens * d) {
    return invalid_argument("x must have batch * d_model = " + std::to_string(tokens * d) + " elements (got " +
                            std::to_string(x.size()) + ")");
  }
  std::vector<double> bound(x.size());
  ErrorBound computation(plan, weights);
  for (std::size_t b = 0; b < tokens; ++b) computation.compute(x.subspan(b * d, d), std::span(bound).subspan(b * d, d));
  return bound;
} catch (const std::exception&) {
  return io_error("not enough memory for the error bound");
}

}  // namespace signsplit
