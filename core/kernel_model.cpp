#include "kernel_model.hpp"

#include <omp.h>

#include <bit>
#include <cmath>

namespace signsplit {
namespace {

constexpr double kRoundoff16 = 0x1p-8;       // u of bf16
constexpr double kUnderflow16 = 0x1p-134;    // half the smallest bf16
constexpr double kUnderflowFlush = 0x1p-125; // twice what a flushed operation loses
constexpr double kLargestExact = 0x1p24;     // integers up to here are f32, and so are all sums that stay below
constexpr double kInflation = 1.0 + 0x1p-20; // the evaluation of a bound in double (docs/exactness.md, 4.5)
constexpr double kLeastNormal = 0x1p-126;

bool is_integer(float value) { return std::abs(value) <= 0x1p24f && value == std::trunc(value); }

bool is_exact(const Approximate& a) { return a.slack == 0.0 && a.error == 0.0; }

float to_tf32(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) >= 0x7f800000u) return value;
  return std::bit_cast<float>((bits + 0xfffu + ((bits >> 13) & 1u)) & ~std::uint32_t{0x1fff});
}

// One rounding to f32 of something computed in f64.
void store_as_f32(Approximate& a) { a.error += kRoundoff32 * a.largest() + kUnderflow32; }

// `changed` never decreases: where it is computed from r̂ in place of r, it lies between its values at the two ends.
Approximate round_values(Operands operands, const Approximate& a) {
  if (operands == Operands::kept || !std::isfinite(a.largest())) return a;
  const auto at = [&](double v) { return static_cast<double>(changed(operands, static_cast<float>(v))); };
  const double value = at(a.value), low = at(a.value - a.reach()), high = at(a.value + a.reach());
  return {value, 0.0, std::max(value - low, high - value)};
}

// Of somebody's gelu or silu: a few ulps of z, which is what 0.5·z·(1 + erf) or z / (1 + e^−z) lose in f32.
constexpr double kSmoothRoundoff = 0x1p-20;

Approximate apply(Curve curve, Activation own, const Approximate& z) {
  switch (curve) {
    case Curve::own: return is_smooth(own) ? activate_smooth(own.kind, z, kSmoothRoundoff) : activate(own, z);
    case Curve::identity: return z;
    case Curve::relu: return activate({ActivationKind::relu}, z);
    case Curve::relu2: return activate({ActivationKind::relu2}, z);
    case Curve::gelu: return activate_smooth(ActivationKind::gelu, z, kSmoothRoundoff);
    case Curve::gelu_tanh: return activate_smooth(ActivationKind::gelu_tanh, z, kSmoothRoundoff);
    case Curve::silu: return activate_smooth(ActivationKind::silu, z, kSmoothRoundoff);
    case Curve::absolute: return {std::abs(z.value), z.slack, z.error};
  }
  return z;
}

// Products of exact integers are exact while they fit: for these the rules of approximate.hpp are too careful.
Approximate exact_product(const Approximate& a, const Approximate& b, const Approximate& careful) {
  const double product = a.value * b.value;
  return is_exact(a) && is_exact(b) && std::abs(product) <= kLargestExact ? Approximate{product, 0.0, 0.0} : careful;
}

int team(int threads) { return threads > 0 ? threads : omp_get_max_threads(); }

}  // namespace

// x of one token as the kernel reads it.
struct KernelEvaluation::Input {
  std::vector<float> values;  // [D]
  bool integers = true;       // ... and none that rounding to bf16 would change, where that is allowed
};

// A row of W1 or Wg as the kernel reads it.
struct KernelEvaluation::Row {
  std::vector<float> values;  // [D]
  float bias = 0.0f;
  bool integers = true;
};

float changed(Operands operands, float value) noexcept {
  switch (operands) {
    case Operands::kept: return value;
    case Operands::to_bf16: return to_float(to_bf16(value));
    case Operands::to_tf32: return to_tf32(value);
    case Operands::flushed: return std::abs(value) < static_cast<float>(kLeastNormal) ? 0.0f : value;
  }
  return value;
}

KernelEvaluation::KernelEvaluation(const Weights& weights, std::span<const float> x, std::vector<index_t> tokens,
                                   Accumulation accumulation, int threads)
    : weights_(weights), x_(x), tokens_(std::move(tokens)), accumulation_(accumulation), threads_(team(threads)) {}

double KernelEvaluation::gamma_of(index_t n) const {
  if (accumulation_ != Accumulation::f64) return gamma(n);
  const double nu = static_cast<double>(n) * 0x1p-53;
  return nu / (1.0 - nu);
}

std::vector<KernelEvaluation::Input> KernelEvaluation::inputs(const FirstProduct& model) const {
  const index_t d = weights_.d_model();
  std::vector<Input> result;
  for (const index_t token : tokens_) {
    Input input;
    for (index_t k = 0; k < d; ++k) {
      const index_t from = k + model.x_shift;
      const float value = from < 0 || from >= d ? 0.0f : x_[static_cast<std::size_t>(token * d + from)];
      input.values.push_back(model.x_factor * changed(model.x, value));
      const bool kept = accumulation_ != Accumulation::bf16_activations || changed(Operands::to_bf16, value) == value;
      input.integers = input.integers && kept && is_integer(value);
    }
    result.push_back(std::move(input));
  }
  return result;
}

void KernelEvaluation::read_row(const FirstProduct& model, bool gate, index_t j, Row& row) const {
  const index_t d = weights_.d_model(), f = weights_.d_ff();
  const bool from_gate = gate != model.swapped;
  row.values.resize(static_cast<std::size_t>(d));
  if (model.transposed) {
    for (index_t k = 0; k < d; ++k) {
      const index_t place = k * f + j;
      row.values[static_cast<std::size_t>(k)] =
          from_gate ? weights_.gate_at(place / d, place % d) : weights_.up_at(place / d, place % d);
    }
  } else {
    weights_.read_row(from_gate ? Matrix::gate : Matrix::up, j, 0, row.values);
  }
  row.integers = true;
  for (float& w : row.values) {
    w = changed(model.weights, w);
    row.integers = row.integers && is_integer(w);
  }
  const auto bias = from_gate ? weights_.gate_bias() : weights_.up_bias();
  const float factor = gate ? model.gate_bias : model.up_bias;
  row.bias = bias.empty() ? 0.0f : factor * changed(model.weights, bias[static_cast<std::size_t>(j)]);
}

// Any order: a product meets one rounding of its own, one addition for each of the others, and the bias.
Approximate KernelEvaluation::sum(const FirstProduct& model, const Input& input, const Row& row, index_t begin,
                                  index_t end) const {
  double value = 0.0, mass = 0.0, weight_mass = 0.0;
  for (auto k = static_cast<std::size_t>(begin); k < static_cast<std::size_t>(end); ++k) {
    const double product = static_cast<double>(input.values[k]) * static_cast<double>(row.values[k]);
    value += product;
    mass += std::abs(product);
  }
  if (accumulation_ == Accumulation::bf16_activations) {
    for (const float w : row.values) weight_mass += std::abs(static_cast<double>(w));
  }
  const double bias = begin == 0 ? static_cast<double>(row.bias) : 0.0;
  value += bias;
  mass += std::abs(bias);
  if (input.integers && row.integers && is_integer(row.bias) && mass <= kLargestExact) return {value, 0.0, 0.0};

  const index_t n = end - begin + 2;
  double relative = gamma_of(n);
  if (accumulation_ == Accumulation::bf16_activations) relative += kRoundoff16 * (1.0 + relative);
  const double lost = model.h == Operands::flushed ? kUnderflowFlush : kUnderflow32;
  Approximate z{value, static_cast<double>(n + 64) * kRoundoff64 * mass,
                (relative * mass + static_cast<double>(n) * lost + weight_mass * kUnderflow16) * kInflation};
  if (accumulation_ == Accumulation::f64) store_as_f32(z);
  if (!(mass <= kLargest)) z.error = std::numeric_limits<double>::infinity();
  return z;
}

Approximate KernelEvaluation::activated(const FirstProduct& model, const Approximate& gate, const Approximate& up) const {
  const Activation own = weights_.activation();
  if (!weights_.gated() || model.gate_ignored) {
    const Approximate h = apply(model.curve, own, up);
    const bool square = model.curve == Curve::relu2 || (model.curve == Curve::own && own.kind == ActivationKind::relu2);
    const Approximate open{std::max(up.value, 0.0), up.slack, up.error};
    return square ? exact_product(open, open, h) : h;
  }
  if (model.curve != Curve::own) return multiply(apply(model.curve, own, gate), up);
  if (is_smooth(own)) return multiply(apply(Curve::own, own, gate), up);
  const Approximate careful = activate_gated(own, gate, up);
  if (!is_exact(gate) || !is_exact(up) || std::abs(gate.value) > 0x1p26 || std::abs(up.value) > 0x1p26) return careful;
  // The products of integers that the double holds: exact while every partial product stays an f32.
  const auto g = static_cast<double>(activate(own, static_cast<float>(gate.value)));
  const double factor = own.kind == ActivationKind::drelu ? std::max(up.value, 0.0) : up.value;
  return exact_product({g, 0.0, 0.0}, {factor, 0.0, 0.0}, careful);
}

Approximate KernelEvaluation::stored_h(const FirstProduct& model, const Approximate& h) const {
  Approximate stored = round_values(model.h, h);
  if (accumulation_ != Accumulation::bf16_activations) return stored;
  if (is_exact(h) && static_cast<double>(changed(Operands::to_bf16, static_cast<float>(h.value))) == h.value) return stored;
  if (!h.is_zero()) stored.error += kRoundoff16 * stored.largest() + kUnderflow16;
  return stored;
}

void KernelEvaluation::unit(const FirstProduct& model, std::span<const Input> inputs, index_t j, Row& up, Row& gate,
                            Hidden& out) const {
  const index_t d = weights_.d_model(), f = weights_.d_ff(), last = std::min(model.k_end, d);
  const index_t step = model.k_tile > 0 ? model.k_tile : d;
  read_row(model, false, j, up);
  if (weights_.gated()) read_row(model, true, j, gate);
  for (std::size_t t = 0; t < inputs.size(); ++t) {
    Approximate h, z;
    for (index_t begin = model.k_begin; begin < last; begin += step) {
      const index_t end = std::min(begin + step, last);
      const Approximate u = sum(model, inputs[t], up, begin, end);
      z = weights_.gated() ? sum(model, inputs[t], gate, begin, end) : u;
      const Approximate one = activated(model, z, u);
      if (begin == model.k_begin) {
        h = one;
      } else {
        h = {h.value + one.value, h.slack + one.slack, h.error + one.error};
        h.error += kRoundoff32 * h.largest();
      }
    }
    const auto place = t * static_cast<std::size_t>(f) + static_cast<std::size_t>(j);
    out.z[place] = z;
    out.h[place] = stored_h(model, h);
  }
}

KernelEvaluation::Hidden KernelEvaluation::hidden(const FirstProduct& model) const {
  const std::vector<Input> x = inputs(model);
  const index_t d = weights_.d_model(), f = weights_.d_ff();
  Hidden out;
  out.z.resize(x.size() * static_cast<std::size_t>(f));
  out.h.resize(out.z.size());
  const Row empty{.values = std::vector<float>(static_cast<std::size_t>(d))};
  std::vector<Row> rows(2 * static_cast<std::size_t>(threads_), empty);  // allocated here: nothing may throw below
#pragma omp parallel for schedule(static) num_threads(threads_)
  for (index_t j = 0; j < f; ++j) {
    const auto mine = 2 * static_cast<std::size_t>(omp_get_thread_num());
    unit(model, x, j, rows[mine], rows[mine + 1], out);
  }
  return out;
}

float KernelEvaluation::down_weight(const SecondProduct& model, index_t column, index_t j) const {
  const index_t d = weights_.d_model(), f = weights_.d_ff();
  if (!model.transposed) return changed(model.weights, weights_.down_at(j, column));
  const index_t place = j * d + column;
  return changed(model.weights, weights_.down_at(place % f, place / f));
}

// Adds the units' rows of W2 to the columns [from, to) of `columns`, of every token.
void KernelEvaluation::accumulate(const SecondProduct& model, std::span<const Approximate> h,
                                  std::span<const index_t> columns, index_t from, index_t to, std::span<Sums> sums) const {
  const index_t f = weights_.d_ff(), last = std::min(model.end, f);
  for (index_t j = model.begin; j < last; ++j) {
    const index_t source = j + model.h_shift;
    if (source < 0 || source >= f) continue;
    for (std::size_t t = 0; t < tokens_.size(); ++t) {
      const Approximate& unit = h[t * static_cast<std::size_t>(f) + static_cast<std::size_t>(source)];
      if (unit.is_zero() && !weights_.down_row_nonfinite(j)) continue;
      const bool integer = is_exact(unit) && is_integer(static_cast<float>(unit.value));
      for (index_t c = from; c < to; ++c) {
        Sums& s = sums[t * columns.size() + static_cast<std::size_t>(c)];
        const float weight = down_weight(model, columns[static_cast<std::size_t>(c)], j);
        const double w = static_cast<double>(weight), magnitude = std::abs(w);
        s.value += unit.value * w;
        s.mass += unit.largest() * magnitude;
        s.carried += unit.error * magnitude;
        s.slack += unit.slack * magnitude;
        s.integers = s.integers && integer && is_integer(weight);
      }
    }
  }
}

// Any order again, of all units and the bias.
Approximate KernelEvaluation::finish(const SecondProduct& model, Sums s, index_t column) const {
  const auto biases = weights_.down_bias();
  float bias = 0.0f;
  if (!biases.empty()) bias = model.bias * changed(model.weights, biases[static_cast<std::size_t>(column)]);
  s.value += static_cast<double>(bias);
  s.mass += std::abs(static_cast<double>(bias));
  if (s.integers && is_integer(bias) && s.mass <= kLargestExact) return {s.value, 0.0, 0.0};

  const index_t n = std::min(model.end, weights_.d_ff()) - model.begin + 2;
  const double lost = model.weights == Operands::flushed ? kUnderflowFlush : kUnderflow32;
  Approximate y{s.value, s.slack + static_cast<double>(n + 64) * kRoundoff64 * s.mass,
                (s.carried + gamma_of(n) * s.mass + static_cast<double>(n) * lost) * kInflation};
  if (accumulation_ == Accumulation::f64) store_as_f32(y);
  if (!(s.mass <= kLargest)) y.error = std::numeric_limits<double>::infinity();
  return y;
}

std::vector<Approximate> KernelEvaluation::output(const SecondProduct& model, std::span<const Approximate> h,
                                                  std::span<const index_t> columns) const {
  constexpr index_t kBlock = 64;  // columns: their sums stay in the first-level cache while rows go by
  const auto width = static_cast<index_t>(columns.size());
  std::vector<Sums> sums(tokens_.size() * columns.size());
#pragma omp parallel for schedule(static) num_threads(threads_)
  for (index_t block = 0; block < ceil_div(width, kBlock); ++block) {
    accumulate(model, h, columns, block * kBlock, std::min((block + 1) * kBlock, width), sums);
  }
  std::vector<Approximate> y;
  for (std::size_t i = 0; i < sums.size(); ++i) y.push_back(finish(model, sums[i], columns[i % columns.size()]));
  return y;
}

}  // namespace signsplit
