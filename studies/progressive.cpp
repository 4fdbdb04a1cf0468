// Progressive planes: a second plane, read only where the first proves nothing, before a row is read whole. Bytes of each way to
// divide a row, and what they would make of the time.
#include <algorithm>
#include <cmath>
#include <limits>

#include "signsplit/certificate.hpp"
#include "signsplit/residual.hpp"
#include "studies/study.hpp"

namespace signsplit::studies {
namespace {

constexpr index_t kGroup = 64;

/// Units that planes of so many bits leave, the second refining the first, as fractions of all (unit, token) pairs. In double:
/// S·x + b + Σ_g ‖x_g‖·‖R_g‖ below the threshold, R what the planes so far leave of the row.
struct Left {
  double first = 0, second = 0, active = 0;
};

struct Token {
  const float* x;
  std::vector<double> norms;  // per group
};

template <class Value>
std::vector<double> group_norms(std::span<Value> row) {
  std::vector<double> norms;
  for (std::size_t g = 0; g < row.size(); g += kGroup) {
    double squares = 0;
    for (std::size_t k = g; k < std::min(g + kGroup, row.size()); ++k) squares += static_cast<double>(row[k]) * static_cast<double>(row[k]);
    norms.push_back(std::sqrt(squares));
  }
  return norms;
}

class LeftCounter {
 public:
  LeftCounter(const Layer& layer, int first_bits, int second_bits) : layer_(layer), bits_{first_bits, second_bits} {
    const index_t d = layer.weights.d_model();
    for (index_t t = 0; t < layer.tokens; ++t) {
      const float* const x = layer.x.data() + t * d;
      tokens_.push_back({x, group_norms(std::span(x, static_cast<std::size_t>(d)))});
    }
  }

  Left count() const {
    const index_t units = layer_.weights.d_ff();
    index_t left[3] = {};
    for (index_t j = 0; j < units; ++j) add_unit(j, left);
    const double pairs = static_cast<double>(units * layer_.tokens);
    return {static_cast<double>(left[0]) / pairs, static_cast<double>(left[1]) / pairs, static_cast<double>(left[2]) / pairs};
  }

 private:
  /// Takes the next plane out of `rest`: on a grid of steps scale / 2^refined, whose scale is the row's group's. Adds its values to `plane`.
  static void take_plane(std::vector<double>& rest, std::vector<double>& plane, const std::vector<double>& scales, int refined) {
    for (std::size_t k = 0; k < rest.size(); ++k) {
      const double step = std::ldexp(scales[k / kGroup], -refined);
      const double value = step > 0 ? step * std::nearbyint(rest[k] / step) : 0;
      plane[k] += value;
      rest[k] -= value;
    }
  }

  void add_unit(index_t j, index_t* left) const {
    const Weights& w = layer_.weights;
    const auto d = static_cast<std::size_t>(w.d_model());
    std::vector<float> row(d);
    w.read_row(w.gated() ? Matrix::gate : Matrix::up, j, 0, row);
    const std::span<const float> bias = w.gated() ? w.gate_bias() : w.up_bias();
    const double t = w.activation().kind == ActivationKind::fatrelu ? static_cast<double>(w.activation().threshold) : 0.0;
    const double offset = (bias.empty() ? 0.0 : static_cast<double>(bias[static_cast<std::size_t>(j)])) - t;
    std::vector<double> rest(row.begin(), row.end()), plane(d), scales;
    for (std::size_t g = 0; g < d; g += kGroup) {
      double largest = 0;
      for (std::size_t k = g; k < std::min(g + kGroup, d); ++k) largest = std::max(largest, std::abs(rest[k]));
      scales.push_back(largest / (std::ldexp(1.0, bits_[0] - 1) - 1));
    }
    std::vector<bool> open(tokens_.size(), true);
    for (int level = 0; level < 2; ++level) {
      take_plane(rest, plane, scales, level == 0 ? 0 : bits_[1]);
      const std::vector<double> norms = group_norms(std::span(rest));
      for (std::size_t i = 0; i < tokens_.size(); ++i) {
        open[i] = open[i] && !proven(tokens_[i], plane, norms, offset);
        left[level] += open[i] ? 1 : 0;
      }
    }
    for (const Token& token : tokens_) left[2] += value(token, row, offset) > 0 ? 1 : 0;
  }

  template <class Row>
  static double value(const Token& token, const Row& row, double offset) {
    for (std::size_t k = 0; k < row.size(); ++k) offset += static_cast<double>(row[k]) * static_cast<double>(token.x[k]);
    return offset;
  }
  static bool proven(const Token& token, const std::vector<double>& plane, const std::vector<double>& rest_norms, double offset) {
    double bound = value(token, plane, offset);
    for (std::size_t g = 0; g < rest_norms.size(); ++g) bound += token.norms[g] * rest_norms[g];
    return bound < 0;
  }

  const Layer& layer_;
  int bits_[2];
  std::vector<Token> tokens_;
};

/// A way to divide the first matrix: bytes of a row's part in each step.
struct Scheme {
  std::string name;
  double plane = 0, second = 0, rest = 0;  ///< read of every unit, of those the first plane leaves, of those both leave
  Left left;
};

std::vector<Scheme> schemes_of(const Layer& layer) {
  const Weights& w = layer.weights;
  const auto columns = static_cast<double>(w.stride()), groups = std::ceil(columns / kGroup);
  const auto row = static_cast<double>(w.row_bytes()), residual = static_cast<double>(ResidualLayout{w.dtype(), w.stride()}.row_bytes());
  const auto plane = [&](double bits) { return columns * bits / 8 + 2 * groups + 12; };
  const auto second = [&](double bits) { return columns * bits / 8 + groups; };
  const Left eight = LeftCounter(layer, 8, 8).count(), four = LeftCounter(layer, 4, 4).count();
  const Left alone{eight.first, eight.first, eight.active};
  std::vector<Scheme> schemes{{"8 bits, then the row", plane(8), 0, row, alone},
                              {"8 bits, then a residual", plane(8), 0, residual, alone},
                              {"8 bits, 8 more, then the row", plane(8), second(8), row, eight},
                              {"4 bits, 4 more, then the row", plane(4), second(4), row, four},
                              {"4 bits, 4 more, then a residual", plane(4), second(4), residual, four}};
  // Only f32 has bits left after 16: the residual's upper bytes are the second plane, its lower bytes the rest. Of a 16-bit type
  // what follows 8 bits is the weight itself.
  if (w.dtype() == DType::f32) schemes.push_back({"8 bits, 8 more, then the rest of a residual", plane(8), second(8), residual - columns, eight});
  return schemes;
}

Status examine(const Layer& layer, Findings& findings) {
  const Weights& w = layer.weights;
  double today = 0;
  Series series{layer.name};
  for (const Scheme& s : schemes_of(layer)) {
    // The rows of W2, and of a gated layer of the up matrix, of the units that are active: the same for all.
    const double others = s.left.active * static_cast<double>(w.row_bytes()) * (w.gated() ? 2 : 1);
    const double bytes = s.plane + s.left.first * s.second + s.left.second * s.rest + others;
    if (today == 0) today = bytes;
    findings.tables[0].rows.push_back({layer.name, std::string(to_string(w.dtype())), s.name, s.left.active, s.left.first, s.left.second,
                                       bytes / static_cast<double>(w.stride()), bytes / today});
    series.points.emplace_back(static_cast<double>(series.points.size() + 1), bytes / today);
  }
  findings.plot.series.push_back(std::move(series));
  return {};
}

/// Seconds that one more survivor takes: two plans that differ in the width of the plane, and so in what it leaves.
struct RowTime {
  double base_s = 0, row_s = 0, refined = 0;  ///< of the plan with 8 bits
};
Result<RowTime> time_rows(const Layer& layer, const Settings& settings) {
  Plan plan = default_plan(layer.weights.problem(), Strategy::certified);
  const std::span<const float> x = std::span(layer.x).first(static_cast<std::size_t>(layer.weights.d_model()));
  std::vector<float> y(x.size());
  std::vector<cpu::Ffn> ffns;
  for (const index_t bits : {8, 6}) {
    plan.plane_bits = bits;
    Result<cpu::Ffn> ffn = cpu::Ffn::create(layer.weights, plan, 1, with_threads(settings.threads));
    if (!ffn) return ffn.status();
    ffns.push_back(std::move(*ffn));
  }
  const std::vector<double> seconds = interleaved_medians({[&] { static_cast<void>(ffns[0].run(x, y)); }, [&] { static_cast<void>(ffns[1].run(x, y)); }},
                                                          settings.small ? 3 : 31);
  const auto refined = [&](std::size_t i) { return static_cast<double>(ffns[i].report().statistics.refined); };
  return RowTime{seconds[0], (seconds[1] - seconds[0]) / std::max(refined(1) - refined(0), 1.0), refined(0)};
}

/// What a second plane of 8 bits would make of certified: rows that it saves against rows of its own, a byte per weight, which a layer
/// stands for whose rows are so long.
Status examine_time(const Settings& settings, Findings& findings) {
  const index_t d = settings.small ? 256 : 4096, f = settings.small ? 512 : 16384;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Problem problem{.d_model = d, .d_ff = f, .dtype = dtype};
    const Problem short_rows{.d_model = d / (dtype == DType::f32 ? 4 : 2), .d_ff = f, .dtype = dtype};
    const auto layer = gaussian_layer("time", problem, 1, settings), bytes = gaussian_layer("rows of a byte per weight", short_rows, 1, settings);
    if (!layer) return layer.status();
    if (!bytes) return bytes.status();
    const auto whole = time_rows(*layer, settings), second = time_rows(*bytes, settings);
    if (!whole) return whole.status();
    if (!second) return second.status();
    const Left left = LeftCounter(*layer, 8, 8).count();
    const double saved = (left.first - left.second) * static_cast<double>(f) * whole->row_s, spent = left.first * static_cast<double>(f) * second->row_s;
    findings.tables[1].rows.push_back({std::string(to_string(dtype)), whole->base_s * 1e3, whole->row_s * 1e9, second->row_s * 1e9, saved * 1e3,
                                       spent * 1e3, (whole->base_s - saved + spent) / whole->base_s});
  }
  return {};
}

Result<Findings> run(const Settings& settings) {
  Findings findings{{{"bytes", {"layer", "weights", "scheme", "active", "left by the first plane", "left by both", "bytes per weight of W1", "of today's bytes"}},
                     {"time", {"weights", "certified ms", "ns per row left", "ns per row of a byte per weight", "saved ms", "spent ms", "time with a second plane"}}},
                    {"Weight bytes of ways to divide the first matrix, of those of 8 bits and the row",
                     "scheme: 1 row, 2 residual, 3 8+8 row, 4 4+4 row, 5 4+4 residual, 6 8+8 rest (f32)", "bytes"}};
  for (const Layer& layer : settings.layers) {
    if (const Status status = examine(layer, findings); !status) return status;
  }
  for (const DType dtype : {DType::bf16, DType::f32}) {
    const Problem problem{.d_model = settings.small ? 256 : 4096, .d_ff = settings.small ? 192 : 4096, .dtype = dtype};
    const auto layer = gaussian_layer("Gaussian " + std::string(to_string(dtype)), problem, settings.small ? 2 : 4, settings);
    if (!layer) return layer.status();
    if (const Status status = examine(*layer, findings); !status) return status;
  }
  if (const Status status = examine_time(settings, findings); !status) return status;
  return findings;
}

}  // namespace

Study progressive() { return {"progressive", "Do progressive planes read less than one plane and the row?", run}; }

}  // namespace signsplit::studies
