// The two matrices compacted into one, C = W2·W1, with a certificate as the stored extra information.
//
// For relu, y = C·x + W2·b1 + b2 − Σ_closed z_j·W2[j]: what C adds for a closed unit is taken back, which needs its z, and so
// its rows of W1 and W2. A plane of W1 says of most units whether they are open (nothing to do) or closed.
#include <algorithm>
#include <cmath>

#include "signsplit/activity.hpp"
#include "signsplit/cpu.hpp"
#include "signsplit/reference.hpp"
#include "signsplit/synthetic.hpp"
#include "studies/study.hpp"

namespace signsplit::studies {
namespace {

using Doubles = std::vector<double>;

bool can_fold(const Weights& weights) {
  const ActivationKind kind = weights.activation().kind;
  return !weights.gated() && (kind == ActivationKind::relu || kind == ActivationKind::identity);
}

/// C = W2·W1 [D, D] in double, rounded once to f32.
std::vector<float> fold(const Weights& weights) {
  const auto d = static_cast<std::size_t>(weights.d_model());
  Doubles sum(d * d), up(d);
  for (index_t j = 0; j < weights.d_ff(); ++j) {
    for (std::size_t k = 0; k < d; ++k) up[k] = static_cast<double>(weights.up_at(j, static_cast<index_t>(k)));
    for (std::size_t row = 0; row < d; ++row) {
      const auto down = static_cast<double>(weights.down_at(j, static_cast<index_t>(row)));
      for (std::size_t k = 0; k < d; ++k) sum[row * d + k] += down * up[k];
    }
  }
  return {sum.begin(), sum.end()};
}

double bias_of(std::span<const float> bias, std::size_t i) { return bias.empty() ? 0.0 : static_cast<double>(bias[i]); }

struct Evaluation {
  Doubles y;
  double squared_bound = 0;  ///< of the distance to the FFN: u·Σ|C||x| for the rounding of C, u·Σ|z||W2| for that of z
};

/// One token from C and repairs, in double but for C and z, which are rounded once.
Evaluation evaluate(const Weights& weights, const std::vector<float>& c, std::span<const float> x, std::span<const float> z) {
  const std::size_t d = x.size();
  Doubles y(d), mass(d);
  for (std::size_t row = 0; row < d; ++row) {
    y[row] = bias_of(weights.down_bias(), row);
    for (std::size_t k = 0; k < d; ++k) {
      const double term = static_cast<double>(c[row * d + k]) * static_cast<double>(x[k]);
      y[row] += term;
      mass[row] += std::abs(term);
    }
  }
  const bool linear = weights.activation().kind == ActivationKind::identity;
  for (std::size_t j = 0; j < z.size(); ++j) {
    double coefficient = bias_of(weights.up_bias(), j);  // b1 is not in C
    if (!linear && z[j] <= 0.0f) coefficient -= static_cast<double>(z[j]);
    if (coefficient == 0.0) continue;
    for (std::size_t row = 0; row < d; ++row) {
      const auto w = static_cast<double>(weights.down_at(static_cast<index_t>(j), static_cast<index_t>(row)));
      y[row] += coefficient * w;
      mass[row] += std::abs(static_cast<double>(z[j]) * w);
    }
  }
  double squared_bound = 0;  // 2⁻²³ for u = 2⁻²⁴: as much again is left for the sums in double and the reference's rounding
  for (std::size_t row = 0; row < d; ++row) squared_bound += std::pow(0x1p-23 * (mass[row] + std::abs(y[row])), 2);
  return {std::move(y), squared_bound};
}

/// The folded layer against the exact result, beside row_fused against it. Errors relative to the size of y.
Status check_result(const Layer& layer, const Settings& settings, Table& table) {
  const auto d = static_cast<std::size_t>(layer.weights.d_model()), f = static_cast<std::size_t>(layer.weights.d_ff());
  const index_t tokens = std::min<index_t>(layer.tokens, 8);
  const std::span<const float> x = std::span(layer.x).first(static_cast<std::size_t>(tokens) * d);
  const auto exact = reference(layer.weights, x, tokens, ReferenceMode::composite, settings.threads);
  if (!exact) return exact.status();
  std::vector<float> fused(x.size());
  auto ffn = cpu::Ffn::create(layer.weights, default_plan(layer.weights.problem(tokens), Strategy::row_fused), tokens,
                              with_threads(settings.threads));
  if (!ffn) return ffn.status();
  if (const Status status = ffn->run(x, fused); !status) return status;
  const std::vector<float> c = fold(layer.weights);
  double folded_error = 0, bound = 0, fused_error = 0, size = 0, closed = 0;
  for (std::size_t t = 0; t < static_cast<std::size_t>(tokens); ++t) {
    const std::span<const float> z = std::span(exact->z).subspan(t * f, f);
    const Evaluation folded = evaluate(layer.weights, c, x.subspan(t * d, d), z);
    bound += folded.squared_bound;
    for (std::size_t i = 0; i < d; ++i) {
      const auto right = static_cast<double>(exact->y[t * d + i]);
      folded_error += std::pow(folded.y[i] - right, 2);
      fused_error += std::pow(static_cast<double>(fused[t * d + i]) - right, 2);
      size += right * right;
    }
    for (const std::uint8_t open : std::span(exact->active).subspan(t * f, f)) closed += open == 0 ? 1 : 0;
  }
  table.rows.push_back({layer.name, closed / static_cast<double>(tokens * layer.weights.d_ff()),
                        std::sqrt(folded_error / size), std::sqrt(bound / size), std::sqrt(fused_error / size)});
  return {};
}

/// Weight bytes of one token, in units of one pass over W1 and W2. `proven_open` of the units need no repair.
double folded_bytes(const Problem& problem, const PlaneRate& plane, double active) {
  const auto d = static_cast<double>(round_up(problem.d_model, 64)), f = static_cast<double>(problem.d_ff);
  const auto element = static_cast<double>(dtype_bytes(problem.dtype));
  const double c = 4.0 * d * d;                                    // f32
  const double planes = f * d * (1.0 + 4.0 / static_cast<double>(plane.group));  // int8; a scale and a norm per group, bf16
  const double up = (1.0 - plane.proven_open) * f * d * element;   // z of what is closed, and of what is in doubt
  const double down = (1.0 - active) * f * d * element;
  return (c + planes + up + down) / (2.0 * f * d * element);
}

/// A layer of which only W1 is read: all units are closed, and rows of W2 are skipped.
Result<Weights> first_product_only(index_t d, index_t rows, DType dtype, std::uint64_t seed) {
  return synthetic_weights({.d_model = d, .d_ff = rows, .dtype = dtype}, 1e-9, seed);
}

/// Seconds of one token: dense, skip, and the three streams of a folded execution, each by the kernels that row_fused uses.
Result<std::vector<double>> measure(const Weights& weights, double closed, const Settings& settings) {
  const index_t d = weights.d_model(), f = weights.d_ff();
  const auto closed_units = std::max<index_t>(1, std::llround(closed * static_cast<double>(f)));
  const Result<Weights> c = first_product_only(d, d, DType::f32, settings.seed);
  const Result<Weights> plane = first_product_only(d, f / 2, DType::bf16, settings.seed);  // as many bytes as int8 has
  const Result<Weights> repairs = synthetic_weights({.d_model = d, .d_ff = closed_units}, 1.0, settings.seed);
  for (const Result<Weights>* layer : {&c, &plane, &repairs}) {
    if (!layer->ok()) return layer->status();
  }
  const std::vector<float> x = synthetic_input(1, d, settings.seed + 1);
  std::vector<float> y(x.size());
  std::vector<cpu::Ffn> ffns;
  const auto add = [&](const Weights& layer, bool skip) {
    auto ffn = cpu::Ffn::create(layer, default_plan(layer.problem(), Strategy::row_fused, skip), 1, with_threads(settings.threads));
    if (ffn) ffns.push_back(std::move(*ffn));
    return ffn.status();
  };
  for (const auto& [layer, skip] : std::vector<std::pair<const Weights*, bool>>{
           {&weights, false}, {&weights, true}, {&*c, true}, {&*plane, true}, {&*repairs, false}}) {
    if (const Status status = add(*layer, skip); !status) return status;
  }
  std::vector<std::function<void()>> calls;
  Status failed;
  for (cpu::Ffn& ffn : ffns) {
    calls.emplace_back([&] {
      if (const Status status = ffn.run(x, y); !status) failed = status;
    });
  }
  std::vector<double> seconds = interleaved_medians(calls, settings.small ? 2 : 15);
  if (!failed) return failed;
  return seconds;
}

Status sweep(const Settings& settings, Findings& findings) {
  const Problem problem = settings.small ? Problem{.d_model = 128, .d_ff = 512} : Problem{.d_model = 2048, .d_ff = 8192};
  Series dense{"row_fused"}, skip{"row_fused, skip"}, folded{"folded"};
  for (const double active : {0.1, 0.25, 0.5, 0.6, 0.75, 0.9, 0.97}) {
    const auto weights = synthetic_weights(problem, active, settings.seed, settings.threads);
    if (!weights) return weights.status();
    const auto x = synthetic_input(8, problem.d_model, settings.seed + 1);
    const auto activity = measure_activity(*weights, x, 8, {{8}, {64}, {}, settings.threads});
    if (!activity) return activity.status();
    const auto seconds = measure(*weights, 1.0 - activity->active, settings);
    if (!seconds) return seconds.status();
    const double bytes = folded_bytes(problem, activity->planes[0], activity->active);
    findings.tables[1].rows.push_back({activity->active, activity->planes[0].proven_open, (1.0 + activity->active) / 2.0, bytes,
                                       1e3 * (*seconds)[0], 1e3 * (*seconds)[1],
                                       1e3 * ((*seconds)[2] + (*seconds)[3] + (*seconds)[4])});
    dense.points.emplace_back(activity->active, 1.0);
    skip.points.emplace_back(activity->active, (1.0 + activity->active) / 2.0);
    folded.points.emplace_back(activity->active, bytes);
  }
  findings.plot.series = {std::move(dense), std::move(skip), std::move(folded)};
  return {};
}

Result<Findings> run(const Settings& settings) {
  Findings findings{{{"result", {"layer", "closed units", "folded: relative error", "its bound", "row_fused: relative error"}},
                     {"sweep",
                      {"active", "proven open", "skip bytes / dense", "folded bytes / dense", "dense, ms", "skip, ms",
                       "folded, ms at least"}},
                     {"layers", {"layer", "active", "skip bytes / dense", "folded bytes / dense"}}},
                    {"Weight bytes of one token, one pass over W1 and W2 = 1", "active units", "weight bytes"}};
  for (const Layer& layer : settings.layers) {
    if (!can_fold(layer.weights)) continue;
    if (const Status status = check_result(layer, settings, findings.tables[0]); !status) return status;
    if (layer.weights.activation().kind == ActivationKind::identity) continue;
    const auto activity = measure_activity(layer.weights, layer.x, layer.tokens, {{8}, {64}, {}, settings.threads});
    if (!activity) return activity.status();
    findings.tables[2].rows.push_back({layer.name, activity->active, (1.0 + activity->active) / 2.0,
                                       folded_bytes(layer.weights.problem(), activity->planes[0], activity->active)});
  }
  if (const Status status = sweep(settings, findings); !status) return status;
  return findings;
}

}  // namespace

Study folded() { return {"folded", "Does it work when the two matrices are compacted into one?", run}; }

}  // namespace signsplit::studies
