#include "signsplit/reference.hpp"

#include <omp.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <new>
#include <string>

#include "real_activation.hpp"
#include "signsplit/exact_sum.hpp"

namespace signsplit {
namespace {

// Columns of y per task of product 2: their accumulators, 37 KB, stay in the first-level cache while rows go by.
constexpr index_t kColumnBlock = 64;

// One hidden unit of one token: what is reported of it, and the doubles whose exact sum, times its row of W2, is added
// to y. Each term is short enough for its product with a weight to be exact in double.
struct Unit {
  float z = 0.0f, h = 0.0f;
  bool open = false;
  std::vector<double> terms;
};

// The exact pre-activations of one unit; `up` is used only when gated, `z` is then the gate's.
struct PreActivation {
  ExactSum z, up;
};

ExactSum row_sum(std::span<const float> x, std::span<const float> weights, std::span<const float> bias, index_t unit) {
  ExactSum sum;
  for (std::size_t k = 0; k < x.size(); ++k) sum.add_product(x[k], weights[k]);
  if (!bias.empty()) sum.add(static_cast<double>(bias[static_cast<std::size_t>(unit)]));
  return sum;
}

// is_open() of the real number.
bool is_open_exactly(Activation a, const ExactSum& z) {
  if (!closes_units(a) || z.is_nan()) return true;
  ExactSum above = z;
  if (a.kind == ActivationKind::fatrelu) above.add(-static_cast<double>(a.threshold));
  return above.sign() > 0;
}

// Range: factors are sums of products of floats, or a square of such a sum: multiples of 2^-596 below 2^560. So this
// product, and its terms times a weight, are inside double's range, and 24-bit pieces make every product exact.
ExactSum product(const ExactSum& a, const ExactSum& b) {
  std::vector<double> left, right;
  a.pieces(left);
  b.pieces(right);
  ExactSum result;
  for (const double l : left) {
    for (const double r : right) result.add(l * r);
  }
  return result;
}

// h as a real number, of an open unit with finite sums.
ExactSum exact_activation(const Problem& problem, const PreActivation& pre) {
  const ExactSum& z = pre.z;
  if (problem.activation.kind == ActivationKind::relu2) {
    return problem.gated ? product(product(z, z), pre.up) : product(z, z);
  }
  return problem.gated ? product(z, pre.up) : z;
}

// h of a unit with a non-finite sum, as IEEE 754 evaluates it: an infinity, a NaN or a zero. Doubles stand for the finite
// sums: they are multiples of 2^-298 below 2^281, so that none, nor a square, becomes a zero or an infinity.
double ieee_activation(const Problem& problem, const PreActivation& pre) {
  const Activation a = problem.activation;
  const double z = pre.z.to_double();
  double h = is_open_exactly(a, pre.z) ? z : 0.0;
  if (a.kind == ActivationKind::relu2) h *= h;
  if (!problem.gated) return h;
  const double up = pre.up.to_double();
  return h * (a.kind == ActivationKind::drelu && up <= 0.0 ? 0.0 : up);
}

bool unit_is_open(const Problem& problem, const PreActivation& pre) {
  const bool both = problem.activation.kind == ActivationKind::drelu;
  return is_open_exactly(problem.activation, pre.z) && (!both || is_open_exactly(problem.activation, pre.up));
}

void finish_staged(const Problem& problem, const PreActivation& pre, bool strict, Unit& unit) {
  if (is_smooth(problem.activation)) {
    const float h = rounded_activation(problem.activation.kind, unit.z);
    unit.h = problem.gated ? h * pre.up.to_float() : h;
    if (unit.h != 0.0f) unit.terms.push_back(static_cast<double>(unit.h));
    return;
  }
  unit.h = problem.gated ? activate_gated(problem.activation, unit.z, pre.up.to_float(), strict)
                         : activate(problem.activation, unit.z);
  if (unit.h != 0.0f) unit.terms.push_back(static_cast<double>(unit.h));
}

void finish_composite(const Problem& problem, const PreActivation& pre, Unit& unit) {
  if (!pre.z.is_finite() || !pre.up.is_finite()) {
    const double h = ieee_activation(problem, pre);
    unit.h = static_cast<float>(h);
    if (h != 0.0) unit.terms.push_back(h);
    return;
  }
  if (!unit.open) return;
  const ExactSum h = exact_activation(problem, pre);
  unit.h = h.to_float();
  h.pieces(unit.terms, 53 - significant_bits(problem.dtype));
}

// The whole computation for one layer. Work is dealt to threads by unit, then by block of columns; sums are exact, so
// nothing depends on how.
class Reference {
 public:
  Reference(const Weights& weights, ReferenceMode mode, int threads, ReferenceResult& result)
      : weights_(weights), mode_(mode), threads_(threads > 0 ? threads : omp_get_max_threads()), result_(result),
        units_(static_cast<std::size_t>(weights.d_ff())) {}

  void run(std::span<const float> x, index_t batch) {
    const auto d = static_cast<std::size_t>(weights_.d_model());
    for (index_t b = 0; b < batch; ++b) {
      first_product(x.subspan(static_cast<std::size_t>(b) * d, d), b);
      second_product(b);
    }
  }

 private:
  void first_product(std::span<const float> x, index_t token) {
    const bool x_nonfinite = !std::all_of(x.begin(), x.end(), [](float v) { return std::isfinite(v); });
    std::atomic<bool> out_of_memory = false;  // an exception must not leave a parallel region
    std::vector<float> rows(static_cast<std::size_t>(threads_) * x.size());
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 16)
    for (index_t j = 0; j < weights_.d_ff(); ++j) {
      const auto thread = static_cast<std::size_t>(omp_get_thread_num());
      if (!compute_unit(x, x_nonfinite, j, std::span(rows).subspan(thread * x.size(), x.size()))) out_of_memory = true;
    }
    if (out_of_memory) throw std::bad_alloc();
    for (index_t j = 0; j < weights_.d_ff(); ++j) {
      const auto at = static_cast<std::size_t>(token * weights_.d_ff() + j);
      const Unit& unit = units_[static_cast<std::size_t>(j)];
      result_.z[at] = unit.z;
      result_.h[at] = unit.h;
      result_.active[at] = unit.open ? 1 : 0;
    }
  }

  [[nodiscard]] bool compute_unit(std::span<const float> x, bool x_nonfinite, index_t j, std::span<float> row) noexcept try {
    const Problem problem = weights_.problem();
    PreActivation pre;
    weights_.read_row(Matrix::up, j, 0, row);
    (problem.gated ? pre.up : pre.z) = row_sum(x, row, weights_.up_bias(), j);
    if (problem.gated) {
      weights_.read_row(Matrix::gate, j, 0, row);
      pre.z = row_sum(x, row, weights_.gate_bias(), j);
    }
    Unit& unit = units_[static_cast<std::size_t>(j)];
    unit.terms.clear();
    unit.h = 0.0f;
    unit.z = pre.z.to_float();
    unit.open = unit_is_open(problem, pre);
    if (mode_ == ReferenceMode::staged) {
      finish_staged(problem, pre, x_nonfinite || weights_.input_row_nonfinite(j), unit);
    } else {
      finish_composite(problem, pre, unit);
    }
    // 0·∞ = NaN must show; every other row of a zero adds nothing.
    if (unit.terms.empty() && weights_.down_row_nonfinite(j)) unit.terms.push_back(0.0);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }

  void second_product(index_t token) {
    const index_t d = weights_.d_model();
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1)
    for (index_t begin = 0; begin < d; begin += kColumnBlock) {
      sum_columns(begin, std::min(kColumnBlock, d - begin), result_.y.data() + token * d + begin);
    }
  }

  void sum_columns(index_t begin, index_t count, float* y) const noexcept {
    std::array<ExactSum, kColumnBlock> sums;
    std::array<float, kColumnBlock> storage;
    const std::span<float> row(storage.data(), static_cast<std::size_t>(count));
    for (index_t j = 0; j < weights_.d_ff(); ++j) {
      const Unit& unit = units_[static_cast<std::size_t>(j)];
      if (unit.terms.empty()) continue;
      weights_.read_row(Matrix::down, j, begin, row);
      for (const double term : unit.terms) {
        for (std::size_t c = 0; c < row.size(); ++c) sums[c].add(term * static_cast<double>(row[c]));
      }
    }
    for (std::size_t c = 0; c < row.size(); ++c) {
      const auto bias = weights_.down_bias();
      if (!bias.empty()) sums[c].add(static_cast<double>(bias[static_cast<std::size_t>(begin) + c]));
      y[c] = sums[c].to_float() + 0.0f;  // a sum that rounds to −0 is stored as +0, as the executors store it
    }
  }

  const Weights& weights_;
  ReferenceMode mode_;
  int threads_;
  ReferenceResult& result_;
  std::vector<Unit> units_;  // of the token being computed
};

}  // namespace

Result<ReferenceResult> reference(const Weights& weights, std::span<const float> x, index_t batch, ReferenceMode mode,
                                  int threads) try {
  if (Status status = validate(weights.problem(batch)); !status) return status;
  const auto tokens = static_cast<std::size_t>(batch);
  const std::size_t d = static_cast<std::size_t>(weights.d_model()), f = static_cast<std::size_t>(weights.d_ff());
  if (x.size() != tokens * d) {
    return invalid_argument("x must have batch * d_model = " + std::to_string(tokens * d) + " elements (got " +
                            std::to_string(x.size()) + ")");
  }
  if (mode == ReferenceMode::composite && !has_composite(weights.activation())) {
    return invalid_argument("the composite reference is defined for identity and the relu family, whose h is a finite sum of products: use "
                            "staged for activation " + to_string(weights.activation(), weights.gated()));
  }
  ReferenceResult result{std::vector<float>(tokens * d), std::vector<float>(tokens * f), std::vector<float>(tokens * f),
                         std::vector<std::uint8_t>(tokens * f)};
  Reference(weights, mode, threads, result).run(x, batch);
  return result;
} catch (const std::exception&) {
  return io_error("not enough memory for the reference");
}

}  // namespace signsplit
