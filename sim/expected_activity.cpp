// What the data will decide, before there are data: a Gaussian model of the pre-activations.
//
// A unit's pre-activation is z = b + Σ_t z_t with z_t ~ N(0, w_t) independent, w_t the K tile's share of D, so that
// Var z = 1; b = Φ⁻¹(active) belongs to tile 0, as the up bias does. Tokens of a batch are independent.
#include <algorithm>
#include <cmath>
#include <vector>

#include "normal.hpp"
#include "signsplit/certificate_panel.hpp"
#include "signsplit/sim/predict.hpp"
#include "signsplit/synthetic.hpp"
#include "signsplit/walk.hpp"

namespace signsplit::sim {
namespace {

constexpr double kPi = 3.14159265358979323846;

/// b. Fractions 0 and 1 stand for a bias beyond all doubt.
double bias_for(double open) {
  if (!(open > 0.0)) return -40.0;
  return open < 1.0 ? normal_quantile(open) : 40.0;
}

/// The share of D of every K tile, and with it the variance of its partial sum.
std::vector<double> tile_variances(const Plan& plan, const Problem& problem) {
  const WalkShape shape = walk_shape(problem);
  std::vector<double> shares(static_cast<std::size_t>(k_tile_count(plan, shape)));
  for (std::size_t t = 0; t < shares.size(); ++t) {
    const KRange k = k_range(plan, shape, static_cast<index_t>(t));
    shares[t] = static_cast<double>(std::min(k.end, problem.d_model) - k.begin) / static_cast<double>(problem.d_model);
  }
  return shares;
}

/// What sign_split does with a unit, per token unless it says otherwise.
struct SplitModel {
  double pushed = 1;        ///< rows per unit and tile, for the batch
  double read = 1;          ///< units of which a push reads the row at least once, for the batch
  double wrong = 0;         ///< units whose pushes do not add up to h, for a token of the batch
};

SplitModel model_interim(const Problem& problem, const std::vector<double>& variances, double bias) {
  double all_open = 1, all_closed = 1, pushed = 0;
  for (std::size_t t = 0; t < variances.size(); ++t) {
    const double open = normal_cdf((t == 0 ? bias : 0.0) / std::sqrt(variances[t]));
    all_open *= open;
    all_closed *= 1.0 - open;
    pushed += any_of_batch(open, problem.batch);
  }
  SplitModel model;
  model.pushed = pushed / static_cast<double>(variances.size());
  model.read = any_of_batch(1.0 - all_closed, problem.batch);
  // Squares of tiles do not add up to the square of the sum, even where all tiles agree.
  const bool additive = problem.activation.kind != ActivationKind::relu2 || variances.size() == 1;
  model.wrong = any_of_batch(1.0 - all_closed - (additive ? all_open : 0.0), problem.batch);
  if (problem.activation.kind == ActivationKind::identity) model = {1, 1, 0};
  return model;
}

SplitModel model_telescoping(const Problem& problem, const std::vector<double>& variances, double bias) {
  SplitModel model{0, 0, 0};
  double before = 0, closed_before = 1, all_closed = 1;  // variance of s_{t−1}, P(s_{t−1} ≤ 0), P(all prefixes ≤ 0)
  for (std::size_t t = 0; t < variances.size(); ++t) {
    const double now = before + variances[t], closed = normal_cdf(-bias / std::sqrt(now));
    const double both = t == 0 ? closed
                               : bivariate_normal_cdf(-bias / std::sqrt(before), -bias / std::sqrt(now), std::sqrt(before / now));
    all_closed *= closed_before > 0.0 ? both / closed_before : 0.0;  // as if the prefixes' signs were a Markov chain
    model.pushed += any_of_batch(1.0 - both, problem.batch) / static_cast<double>(variances.size());
    before = now;
    closed_before = closed;
  }
  model.read = any_of_batch(1.0 - all_closed, problem.batch);
  if (problem.activation.kind == ActivationKind::identity) model = {1, 1, 0};
  return model;
}

SplitModel model_split(const Plan& plan, const Problem& problem, double bias) {
  const std::vector<double> variances = tile_variances(plan, problem);
  switch (plan.variant) {
    case Variant::interim:
    case Variant::ignore: return model_interim(problem, variances, bias);
    case Variant::telescoping: return model_telescoping(problem, variances, bias);
    case Variant::streams:
    case Variant::none: break;
  }
  return {1, 1, 1};  // streams: every unit has a positive stream, and a negative one to repair it with
}

struct Refined {
  double units = 0;     ///< that the plane leaves
  double elements = 0;  ///< of their rows that are read: before each K tile the bound is that of the rest
};
/// Units that a certificate cannot settle, for the batch: those with z above −B. With independent weights and x of variance 1
/// B is ‖x‖‖R‖, where R is uniform within half a scale, and the scale is the largest of a group of |w| over 2^(bits−1) − 1;
/// and what the rounding of x to the largest of a group over kMaxQuantizedX can do.
Refined refined_of(const Problem& problem, const Plan& plan, double bias) {
  const double group = static_cast<double>(std::min(plan.plane_group, round_up(problem.d_model, kAccumulators)));
  const double largest = normal_quantile(0.5 + 0.5 * std::pow(0.5, 1.0 / group));  // the median
  const double root = std::sqrt(static_cast<double>(problem.d_model)), levels = std::exp2(static_cast<double>(plan.plane_bits - 1)) - 1.0;
  const double scale = largest / levels;  // times 1/√D
  const double bound = root * scale * (1.0 / std::sqrt(12.0) + 128.0 * largest / (4.0 * kMaxQuantizedX));
  const double units = any_of_batch(normal_cdf(bias + bound), problem.batch);
  if (!judges_again(plan, problem)) return {units, units};
  const WalkShape shape = walk_shape(problem);
  const double columns = static_cast<double>(shape.d_padded);
  const index_t tiles = k_tile_count(plan, shape);
  double elements = 0;
  for (index_t t = 0; t < tiles; ++t) {
    const KRange k = k_range(plan, shape, t);
    const double rest = static_cast<double>(shape.d_padded - k.begin) / columns;
    elements += normal_cdf(bias + bound * rest) * static_cast<double>(k.size()) / columns;
  }
  return {units, elements};
}

/// Signs in doubt: the density of z at 0 times the width of the executors' rounding bound γ_n·(‖x‖·‖w‖ + |b|), where ‖x‖·‖w‖
/// is √D standard deviations of z. n: the FMAs of a partial sum, and the tree and the streams of every K tile.
double doubtful(const Problem& problem, const Plan& plan, double bias) {
  if (!closes_units(problem.activation)) return 0.0;
  const double d = static_cast<double>(problem.d_model);
  const double steps = static_cast<double>(ceil_div(problem.d_model, kAccumulators)) + 16.0 +
                       4.0 * static_cast<double>(k_tile_count(plan, walk_shape(problem)));
  const double gamma = steps * 0x1p-24;
  return std::min(1.0, 2.0 * gamma * (std::sqrt(d) + std::abs(bias)) * std::exp(-0.5 * bias * bias) / std::sqrt(2.0 * kPi));
}

}  // namespace

double any_of_batch(double p, index_t batch) noexcept {
  return 1.0 - std::pow(1.0 - std::clamp(p, 0.0, 1.0), static_cast<double>(batch));
}

double normal_cdf(double x) noexcept { return 0.5 * std::erfc(-x * 0.70710678118654752440); }

double bivariate_normal_cdf(double h, double k, double rho) noexcept {
  // Drezner and Wesolowsky's integral over the correlation, r = sin θ, by Gauss–Legendre with 20 nodes (10 and their mirror
  // images): good to 1e-6 up to rho = 0.99, far beyond what the model is.
  constexpr double kNodes[] = {0.07652652113349733, 0.22778585114164507, 0.37370608871541955, 0.51086700195082710,
                               0.63605368072651503, 0.74633190646015079, 0.83911697182221882, 0.91223442825132591,
                               0.96397192727791379, 0.99312859918509492};
  constexpr double kWeights[] = {0.15275338713072585, 0.14917298647260374, 0.14209610931838205, 0.13168863844917663,
                                 0.11819453196151842, 0.10193011981724044, 0.08327674157670475, 0.06267204833410907,
                                 0.04060142980038694, 0.01761400713915212};
  const double half = 0.5 * std::asin(std::clamp(rho, 0.0, 0.999999));
  double sum = 0;
  for (int i = 0; i < 10; ++i) {
    for (const double side : {-1.0, 1.0}) {
      const double sine = std::sin(half * (1.0 + side * kNodes[i]));
      sum += kWeights[i] * std::exp(-(h * h + k * k - 2.0 * h * k * sine) / (2.0 * (1.0 - sine * sine)));
    }
  }
  return normal_cdf(h) * normal_cdf(k) + half * sum / (2.0 * kPi);
}

Activity expected_activity(double active, const Plan& plan, const Problem& problem) {
  Activity activity;
  activity.active = active;
  const double open = std::clamp(active, 0.0, 1.0);
  // Of a drelu unit both factors must be open, and the up value, without a bias, is open half of the time.
  const double gate_open = problem.activation.kind == ActivationKind::drelu ? std::min(1.0, 2.0 * open) : open;
  const double any_open = any_of_batch(open, problem.batch);
  activity.active_union = any_open;
  activity.repaired = activity.redone = activity.rechecked = 0.0;
  activity.pushed = plan.skip ? any_open : 1.0;
  if (problem.gated && plan.skip && plan.strategy != Strategy::sign_split) {
    activity.up_rows = any_of_batch(gate_open, problem.batch);
  }
  if (plan.strategy == Strategy::certified) {
    const Refined refined = refined_of(problem, plan, bias_for(gate_open));
    activity.refined = refined.units;
    activity.refined_read = refined.elements;
  }
  if (plan.strategy != Strategy::sign_split || !validate(plan, problem).ok()) return activity;

  const double bias = bias_for(gate_open), tiles = static_cast<double>(k_tile_count(plan, walk_shape(problem)));
  const SplitModel model = model_split(plan, problem, bias);
  const bool repairs = plan.repair != Repair::none;
  activity.pushed = plan.skip ? model.pushed : 1.0;
  activity.repaired = !repairs ? 0.0 : plan.repair == Repair::full ? 1.0 : model.wrong;
  activity.redone = plan.repair == Repair::redo ? model.wrong : 0.0;
  activity.rechecked = doubtful(problem, plan, bias);
  if (plan.skip) {
    // Wrong units have been pushed; of all units, those that a push has read.
    const double repaired_again = plan.repair == Repair::full ? model.read : *activity.repaired;
    activity.down_again = model.pushed * tiles - model.read + repaired_again;
  }
  return activity;
}

}  // namespace signsplit::sim
