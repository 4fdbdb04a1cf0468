// The oneDNN baseline computes the same FFN: every output within a bound derived for any order of summation.
#include "cpu/baselines/onednn.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "seed.hpp"
#include "signsplit/reference.hpp"
#include "signsplit/synthetic.hpp"

using namespace signsplit;
using baselines::OneDnnArithmetic;
using baselines::OneDnnFfn;

namespace {

/// A layer with all biases and an input, owned.
struct Layer {
  Weights weights;
  std::vector<float> x;
  index_t batch;
};

std::vector<float> normal_values(index_t count, double scale, std::uint64_t stream) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(scale * random_normal(test::seed() + stream, i));
  }
  return values;
}

std::vector<std::byte> stored(const std::vector<float>& values, DType dtype) {
  std::vector<std::byte> bytes(values.size() * static_cast<std::size_t>(dtype_bytes(dtype)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::f32) {
      std::memcpy(bytes.data() + 4 * i, &values[i], 4);
    } else {
      const std::uint16_t rounded = dtype == DType::f16 ? to_f16(values[i]).bits : to_bf16(values[i]).bits;
      std::memcpy(bytes.data() + 2 * i, &rounded, 2);
    }
  }
  return bytes;
}

Layer make_layer(const Problem& problem, bool biases) {
  const index_t d = problem.d_model, f = problem.d_ff;
  const double up_scale = 1.0 / std::sqrt(static_cast<double>(d)), down_scale = 1.0 / std::sqrt(static_cast<double>(f));
  const DType dtype = problem.dtype == DType::int8 ? DType::f32 : problem.dtype;  // int8: rounded from f32
  const auto up = stored(normal_values(d * f, up_scale, 1), dtype);
  const auto down = stored(normal_values(d * f, down_scale, 2), dtype);
  const auto gate = stored(normal_values(problem.gated ? d * f : 0, up_scale, 3), dtype);
  const auto up_bias = normal_values(biases ? f : 0, 0.5, 4), gate_bias = normal_values(biases && problem.gated ? f : 0, 0.5, 5),
             down_bias = normal_values(biases ? d : 0, 0.5, 6);
  auto weights = Weights::pack({.d_model = d, .d_ff = f, .dtype = dtype, .activation = problem.activation,
                                .up = up, .down = down, .gate = gate,
                                .up_bias = up_bias, .gate_bias = gate_bias, .down_bias = down_bias});
  REQUIRE_MESSAGE(weights.ok(), weights.message());
  if (problem.dtype == DType::int8) weights = weights->quantize(problem.group);
  REQUIRE_MESSAGE(weights.ok(), weights.message());
  return {std::move(weights).value(), normal_values(problem.batch * d, 1.0, 7), problem.batch};
}

// ---- the bound --------------------------------------------------------------------------------------------------

constexpr double kUnit = 0x1p-24;       // rounding to f32
constexpr double kUnitBf16 = 0x1p-9;    // rounding to bf16: 8 significant bits
constexpr double kUnitF16 = 0x1p-11;    // rounding to f16, where it is not subnormal
constexpr double kFlushed = 0x1p-126;   // what an operation may lose when subnormals are flushed (bf16 dot products do)
double gamma(index_t n) { return static_cast<double>(n) * kUnit / (1.0 - static_cast<double>(n) * kUnit); }

/// A computed quantity: its exact value, and how far the computed one may lie from it.
struct Approximate {
  double value = 0, error = 0;
  [[nodiscard]] double most() const { return std::abs(value) + error; }
};

/// A dot product of n terms and a bias, summed in any order, with or without FMA: no term goes through more than n + 2
/// roundings. input_unit is the relative error that the terms start with (x or h rounded to bf16), or 0.
Approximate dot(const std::vector<double>& terms, double bias, double input_unit) {
  const auto n = static_cast<index_t>(terms.size());
  double sum = bias, mass = 0;
  for (const double term : terms) {
    sum += term;
    mass += std::abs(term);
  }
  const double error = input_unit * mass + gamma(n + 2) * ((1 + input_unit) * mass + std::abs(bias));
  return {sum, error + 2.0 * static_cast<double>(n + 2) * kFlushed};
}

/// 1-Lipschitz, exact in f32.
Approximate relu_of(Approximate z) { return {z.value > 0 ? z.value : 0.0, z.error}; }

Approximate product(Approximate a, Approximate b) {
  const double error = a.error * std::abs(b.value) + std::abs(a.value) * b.error + a.error * b.error;
  return {a.value * b.value, error + kUnit * a.most() * b.most() + kFlushed};
}

double smooth(ActivationKind kind, double z) {
  if (kind == ActivationKind::gelu) return 0.5 * z * std::erfc(-z / std::sqrt(2.0));
  const double exponent = kind == ActivationKind::silu ? z : 1.5957691216057308 * (z + 0.044715 * z * z * z);
  return z / (1.0 + std::exp(-exponent));
}

Approximate activated(const Activation& activation, Approximate z) {
  if (activation.kind == ActivationKind::identity) return z;
  if (is_smooth(activation)) {  // slope at most 1.13; oneDNN's approximations and the reference's rounding of z and h are within some ulps of z
    return {smooth(activation.kind, z.value), 1.13 * z.error + 0x1p-20 * z.most() + kFlushed};
  }
  const Approximate positive = relu_of(z);
  return activation.kind == ActivationKind::relu2 ? product(positive, positive) : positive;
}

struct Bounds {
  std::vector<double> distance;  // [B, D] that an output may lie from the composite reference
};

Approximate hidden_unit(const Layer& layer, index_t token, index_t j, double input_unit) {
  const Weights& w = layer.weights;
  const auto d = static_cast<std::size_t>(w.d_model()), unit = static_cast<std::size_t>(j);
  const float* x = layer.x.data() + static_cast<std::size_t>(token) * d;
  std::vector<double> up(d), gate(d);
  for (std::size_t k = 0; k < d; ++k) {
    up[k] = static_cast<double>(w.up_at(j, static_cast<index_t>(k))) * static_cast<double>(x[k]);
    if (w.gated()) gate[k] = static_cast<double>(w.gate_at(j, static_cast<index_t>(k))) * static_cast<double>(x[k]);
  }
  const auto bias = [&](std::span<const float> b) { return b.empty() ? 0.0 : static_cast<double>(b[unit]); };
  const Approximate z = dot(up, bias(w.up_bias()), input_unit);
  Approximate h;
  if (w.gated()) {
    const Approximate g = dot(gate, bias(w.gate_bias()), input_unit);
    h = product(activated(w.activation(), g), w.activation().kind == ActivationKind::drelu ? relu_of(z) : z);
  } else {
    h = activated(w.activation(), z);
  }
  h.error += input_unit * h.most() + (input_unit > 0 ? kFlushed : 0.0);  // stored as bf16
  return h;
}

Bounds bounds_of(const Layer& layer, OneDnnArithmetic arithmetic) {
  const double input_unit = arithmetic == OneDnnArithmetic::bf16 ? kUnitBf16 : arithmetic == OneDnnArithmetic::f16 ? kUnitF16 : 0.0;
  const Weights& w = layer.weights;
  Bounds bounds;
  for (index_t token = 0; token < layer.batch; ++token) {
    std::vector<Approximate> h;
    for (index_t j = 0; j < w.d_ff(); ++j) h.push_back(hidden_unit(layer, token, j, input_unit));
    for (index_t i = 0; i < w.d_model(); ++i) {
      const double bias = w.down_bias().empty() ? 0.0 : static_cast<double>(w.down_bias()[static_cast<std::size_t>(i)]);
      double mass = std::abs(bias), carried = 0;
      for (index_t j = 0; j < w.d_ff(); ++j) {
        const double weight = std::abs(static_cast<double>(w.down_at(j, i)));
        const Approximate& unit = h[static_cast<std::size_t>(j)];
        mass += weight * unit.most();
        carried += weight * unit.error;
      }
      // The last term is the reference's own rounding; 1e-9 covers this function's arithmetic in double.
      bounds.distance.push_back((carried + gamma(w.d_ff() + 2) * mass + kUnit * mass +
                                 2.0 * static_cast<double>(w.d_ff() + 2) * kFlushed) * (1 + 1e-9));
    }
  }
  return bounds;
}

/// The first output that is too far from the reference, or −1. NaN is too far from everything.
index_t first_outside(const std::vector<float>& y, const std::vector<float>& exact, const Bounds& bounds) {
  if (y.size() != exact.size() || bounds.distance.size() != exact.size()) return 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double distance = std::abs(static_cast<double>(y[i]) - static_cast<double>(exact[i]));
    if (!(distance <= bounds.distance[i])) return static_cast<index_t>(i);
  }
  return -1;
}

std::vector<float> exact_output(const Layer& layer) {
  auto result = reference(layer.weights, layer.x, layer.batch, sharpest_mode(layer.weights.activation()));
  REQUIRE_MESSAGE(result.ok(), result.message());
  return result->y;
}

std::vector<float> run(OneDnnFfn& ffn, const Layer& layer) {
  std::vector<float> y(layer.x.size(), std::numeric_limits<float>::quiet_NaN());
  const Status status = ffn.run(layer.x, y);
  REQUIRE_MESSAGE(status.ok(), status.message());
  return y;
}

void check_problem(const Problem& problem, bool biases, int threads) {
  CAPTURE(describe(problem));
  CAPTURE(biases);
  const Layer layer = make_layer(problem, biases);
  auto ffn = OneDnnFfn::create(layer.weights, problem.batch, threads);
  REQUIRE_MESSAGE(ffn.ok(), ffn.message());
  CAPTURE(ffn->description());
  CHECK((ffn->arithmetic() == OneDnnArithmetic::f32) == (problem.dtype == DType::f32));
  CHECK(ffn->weight_bytes() >= static_cast<std::size_t>(matrix_count(problem) * problem.d_model * problem.d_ff *
                                                        dtype_bytes(problem.dtype)));
  const std::vector<float> y = run(*ffn, layer);
  CHECK(first_outside(y, exact_output(layer), bounds_of(layer, ffn->arithmetic())) == -1);
}

Problem problem_of(DType dtype, Activation activation, bool gated, index_t batch, index_t d = 100, index_t f = 300) {
  return {.d_model = d, .d_ff = f, .batch = batch, .dtype = dtype, .activation = activation, .gated = gated};
}

}  // namespace

TEST_CASE("every activation that oneDNN has, f32 and bf16, with and without biases, one token and several") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const index_t batch : {index_t{1}, index_t{5}}) {
      for (const bool biases : {false, true}) {
        using enum ActivationKind;
        for (const auto kind : {identity, relu, relu2, gelu, gelu_tanh, silu}) {
          check_problem(problem_of(dtype, {kind}, false, batch), biases, 0);
        }
        for (const auto kind : {identity, relu, relu2, drelu, gelu, gelu_tanh, silu}) {
          check_problem(problem_of(dtype, {kind}, true, batch), biases, 0);
        }
      }
    }
  }
}

TEST_CASE("shapes that are no multiple of anything, and one thread") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    check_problem(problem_of(dtype, {}, false, 1, 1, 1), true, 1);
    check_problem(problem_of(dtype, {}, false, 2, 65, 3), true, 1);
    check_problem(problem_of(dtype, {}, true, 3, 7, 129), true, 1);
    check_problem(problem_of(dtype, {}, false, 1, 512, 2048), true, 2);
  }
}

TEST_CASE("with x and h kept in f32, every type is inside the bound of f32") {
  for (const auto& stored : {std::pair<DType, index_t>{DType::f32, 0}, {DType::bf16, 0}, {DType::f16, 0}, {DType::int8, 0}, {DType::int8, 64}}) {
    Problem problem = problem_of(stored.first, {}, true, 5);
    problem.group = stored.second;
    const Layer layer = make_layer(problem, true);
    auto ffn = OneDnnFfn::create(layer.weights, 5, 2, baselines::OneDnnActivations::kept_f32);
    REQUIRE_MESSAGE(ffn.ok(), ffn.message());
    CHECK((ffn->arithmetic() == OneDnnArithmetic::widened) == (stored.first != DType::f32));
    CHECK(first_outside(run(*ffn, layer), exact_output(layer), bounds_of(layer, OneDnnArithmetic::f32)) == -1);
  }
}

TEST_CASE("f16 weights, in f16 or widened") {
  for (const bool gated : {false, true}) check_problem(problem_of(DType::f16, {}, gated, 3), true, 2);
}

namespace {

double row_mass(const Weights& w, Matrix matrix, index_t j) {
  std::vector<float> row(static_cast<std::size_t>(w.d_model()));
  w.read_row(matrix, j, 0, row);
  double mass = 0;
  for (const float v : row) mass += std::abs(static_cast<double>(v));
  return mass;
}

/// x and h quantized per token: each value moves by at most half a step of max/127; the thousandth covers f32 roundings.
Bounds int8_bounds(const Layer& layer) {
  constexpr double kHalfStep = 0.501 / 127.0;
  const Weights& w = layer.weights;
  const auto d = static_cast<std::size_t>(w.d_model());
  Bounds bounds;
  for (index_t token = 0; token < layer.batch; ++token) {
    double largest_x = 0, largest_h = 0;
    for (std::size_t k = 0; k < d; ++k) largest_x = std::max(largest_x, std::abs(static_cast<double>(layer.x[static_cast<std::size_t>(token) * d + k])));
    std::vector<Approximate> h;
    for (index_t j = 0; j < w.d_ff(); ++j) {
      Approximate z = hidden_unit(layer, token, j, 0.0);
      if (w.gated()) {  // |a'·v' − a·v| with both factors off by their own steps: from the exact values of both
        const double ea = kHalfStep * largest_x * row_mass(w, Matrix::gate, j), ev = kHalfStep * largest_x * row_mass(w, Matrix::up, j);
        double a = w.gate_bias().empty() ? 0.0 : static_cast<double>(w.gate_bias()[static_cast<std::size_t>(j)]);
        double v = w.up_bias().empty() ? 0.0 : static_cast<double>(w.up_bias()[static_cast<std::size_t>(j)]);
        for (std::size_t k = 0; k < d; ++k) {
          const auto x = static_cast<double>(layer.x[static_cast<std::size_t>(token) * d + k]);
          a += x * static_cast<double>(w.gate_at(j, static_cast<index_t>(k)));
          v += x * static_cast<double>(w.up_at(j, static_cast<index_t>(k)));
        }
        z.error += ea * std::abs(v) + std::max(a, 0.0) * ev + ea * ev;
      } else {
        z.error += 1.13 * kHalfStep * largest_x * row_mass(w, Matrix::up, j);  // 1.13: of gelu
      }
      largest_h = std::max(largest_h, z.most());
      h.push_back(z);
    }
    for (index_t i = 0; i < w.d_model(); ++i) {
      double distance = 0, mass = 0;
      for (index_t j = 0; j < w.d_ff(); ++j) {
        const double weight = std::abs(static_cast<double>(w.down_at(j, i)));
        distance += weight * (h[static_cast<std::size_t>(j)].error + kHalfStep * largest_h);
        mass += weight * h[static_cast<std::size_t>(j)].most();
      }
      bounds.distance.push_back(distance + 1e-5 * (mass + 1.0));
    }
  }
  return bounds;
}

}  // namespace

TEST_CASE("int8: x and h quantized per token, within half a step of each; groups are refused") {
  using enum ActivationKind;
  for (const auto& [kind, gated] : {std::pair{relu, false}, {relu, true}, {gelu, false}}) {
    for (const index_t batch : {1, 3}) {
      const Layer layer = make_layer(problem_of(DType::int8, {kind}, gated, batch), true);
      auto ffn = OneDnnFfn::create(layer.weights, batch, 2);
      if (!ffn && ffn.status().code() == StatusCode::unsupported) {
        MESSAGE("skipped: ", ffn.message());  // without AVX-512 or VNNI there may be only a reference implementation
        continue;
      }
      REQUIRE_MESSAGE(ffn.ok(), ffn.message());
      CAPTURE(ffn->description());
      CHECK(ffn->arithmetic() == OneDnnArithmetic::int8);
      CHECK(first_outside(run(*ffn, layer), exact_output(layer), int8_bounds(layer)) == -1);
    }
  }
  Problem grouped = problem_of(DType::int8, {}, false, 1);
  grouped.group = 64;
  const auto refused = OneDnnFfn::create(make_layer(grouped, false).weights);
  CHECK(refused.message().find("grouped scales") != std::string::npos);
}

TEST_CASE("fatrelu is refused with the reason, unless its threshold is zero") {
  const Activation thresholded{ActivationKind::fatrelu, 0.25f};
  const Layer refused = make_layer(problem_of(DType::f32, thresholded, false, 1), false);
  const auto ffn = OneDnnFfn::create(refused.weights);
  REQUIRE_FALSE(ffn.ok());
  CHECK(ffn.status().code() == StatusCode::unsupported);
  CHECK(ffn.message().find("fatrelu") != std::string::npos);
  check_problem(problem_of(DType::f32, {ActivationKind::fatrelu, 0.0f}, false, 1), false, 0);
}

TEST_CASE("wrong sizes are refused, and nothing is written") {
  const Layer layer = make_layer(problem_of(DType::f32, {}, false, 2), false);
  auto ffn = OneDnnFfn::create(layer.weights, 2);
  REQUIRE_MESSAGE(ffn.ok(), ffn.message());
  std::vector<float> y(layer.x.size(), 7.0f), short_y(layer.x.size() - 1, 7.0f);
  CHECK(ffn->run(std::span(layer.x).first(1), y).code() == StatusCode::invalid_argument);
  CHECK(ffn->run(layer.x, short_y).code() == StatusCode::invalid_argument);
  CHECK(y == std::vector<float>(layer.x.size(), 7.0f));
  CHECK_FALSE(OneDnnFfn::create(layer.weights, 0).ok());
}

TEST_CASE("two baselines live side by side; a moved one goes on; the version is told") {
  const Layer one = make_layer(problem_of(DType::bf16, {}, false, 1), true);
  const Layer two = make_layer(problem_of(DType::bf16, {}, true, 1), true);
  auto a = OneDnnFfn::create(one.weights), b = OneDnnFfn::create(two.weights);
  REQUIRE_MESSAGE(a.ok(), a.message());
  REQUIRE_MESSAGE(b.ok(), b.message());
  const std::vector<float> first = run(*a, one);
  run(*b, two);
  OneDnnFfn moved = std::move(a).value();
  CHECK(run(moved, one) == first);
  CHECK(first_outside(first, exact_output(one), bounds_of(one, moved.arithmetic())) == -1);
  CHECK(moved.description().find("oneDNN " + baselines::onednn_version()) != std::string::npos);
  MESSAGE(moved.description());
}

TEST_CASE("the checker finds a wrong element, a NaN, a flipped sign, a dropped tail") {
  const Layer layer = make_layer(problem_of(DType::f32, {}, false, 2), true);
  const std::vector<float> exact = exact_output(layer);
  const Bounds bounds = bounds_of(layer, OneDnnArithmetic::f32);
  REQUIRE(first_outside(exact, exact, bounds) == -1);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const auto expect_found = [&](float wrong) {
      std::vector<float> y = exact;
      y[i] = wrong;
      CHECK(first_outside(y, exact, bounds) == static_cast<index_t>(i));
    };
    expect_found(exact[i] + static_cast<float>(1.5 * bounds.distance[i]));
    expect_found(std::numeric_limits<float>::quiet_NaN());
    if (std::abs(static_cast<double>(exact[i])) > bounds.distance[i]) expect_found(-exact[i]);
  }
  std::vector<float> shorter(exact.begin(), exact.end() - 1);
  CHECK(first_outside(shorter, exact, bounds) != -1);
}
