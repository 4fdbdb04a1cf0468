// Layers made to break the certificate, and tokens as it wants them.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "canonical_ffn.hpp"
#include "certify_dispatch.hpp"
#include "signsplit/certificate.hpp"
#include "signsplit/cpu.hpp"

namespace signsplit::test {

inline constexpr float kInf = std::numeric_limits<float>::infinity();

/// A layer and x that are hard for the certificate in one way.
struct Adversary {
  std::string name;
  std::function<void(Layer&, std::vector<float>&, std::mt19937_64&)> change;
};

inline float stored(DType dtype, float v) {
  return dtype == DType::f32 ? v : dtype == DType::f16 ? to_float(to_f16(v)) : to_float(to_bf16(v));
}
inline DType any_dtype(std::mt19937_64& rng) {
  constexpr DType kTypes[] = {DType::f32, DType::bf16, DType::f16};
  return kTypes[rng() % 3];
}

inline float power_of_two(int exponent) { return std::ldexp(1.0f, exponent); }

/// Sets the last weight of every row so that z, summed exactly, is a rounding error from the threshold 0, or on it.
inline void cancel(std::vector<float>& matrix, std::vector<float>& bias, Layer& layer, std::vector<float>& x, std::mt19937_64& rng) {
  const index_t d = layer.problem.d_model;
  const index_t last = d - 1;
  for (index_t b = 0; b < layer.problem.batch; ++b) x[static_cast<std::size_t>(b * d + last)] = 1.0f;
  for (index_t j = 0; j < layer.problem.d_ff; ++j) {
    double sum = bias.empty() ? 0.0 : static_cast<double>(bias[static_cast<std::size_t>(j)]);
    for (index_t k = 0; k < last; ++k) {
      sum += static_cast<double>(x[static_cast<std::size_t>(k)]) * static_cast<double>(stored(layer.problem.dtype, matrix[static_cast<std::size_t>(j * d + k)]));
    }
    float w = stored(layer.problem.dtype, static_cast<float>(-sum));
    for (unsigned steps = static_cast<unsigned>(rng() % 3); steps > 0; --steps) w = std::nextafter(w, rng() % 2 == 0 ? kInf : -kInf);
    matrix[static_cast<std::size_t>(j * d + last)] = w;
  }
}

inline std::vector<float>& first_matrix(Layer& layer) { return layer.problem.gated ? layer.gate : layer.up; }
inline std::vector<float>& first_bias(Layer& layer) { return layer.problem.gated ? layer.gate_bias : layer.up_bias; }

inline const std::vector<Adversary>& adversaries() {
  static const std::vector<Adversary> all{
      {"gaussian", [](Layer&, std::vector<float>&, std::mt19937_64&) {}},
      {"outlier channels of x", [](Layer& l, std::vector<float>& x, std::mt19937_64& rng) {
         for (std::size_t i = 0; i < x.size(); ++i) x[i] *= i % 97 == 5 ? 3000.0f : 1.0f;
         static_cast<void>(l);
         static_cast<void>(rng);
       }},
      {"outlier weights", [](Layer& l, std::vector<float>&, std::mt19937_64& rng) {
         for (float& w : first_matrix(l)) w *= rng() % 50 == 0 ? 500.0f : 1.0f;
       }},
      {"scales of rows and channels far apart", [](Layer& l, std::vector<float>& x, std::mt19937_64& rng) {
         const auto d = static_cast<std::size_t>(l.problem.d_model);
         std::vector<float>& m = first_matrix(l);
         for (std::size_t j = 0; j * d < m.size(); ++j) {
           const float scale = power_of_two(static_cast<int>(rng() % 120) - 60);
           for (std::size_t k = 0; k < d; ++k) m[j * d + k] *= scale * power_of_two(static_cast<int>(k % 40) - 20);
         }
         for (std::size_t k = 0; k < x.size(); ++k) x[k] *= power_of_two(20 - static_cast<int>(k % d % 40));
       }},
      {"scales of groups far apart", [](Layer& l, std::vector<float>& x, std::mt19937_64&) {
         const auto d = static_cast<std::size_t>(l.problem.d_model);
         std::vector<float>& m = first_matrix(l);
         for (std::size_t i = 0; i < m.size(); ++i) m[i] *= power_of_two(-5 * static_cast<int>(i % d / 64 % 5));
         for (std::size_t i = 0; i < x.size(); ++i) x[i] *= power_of_two(5 * static_cast<int>(i % d / 64 % 5));
       }},
      {"huge", [](Layer& l, std::vector<float>& x, std::mt19937_64& rng) {
         for (float& w : first_matrix(l)) w *= rng() % 3 == 0 ? 1e38f : 1e30f;
         for (float& v : x) v *= 1e8f;
       }},
      {"x huge", [](Layer&, std::vector<float>& x, std::mt19937_64&) { for (float& v : x) v *= 1e37f; }},
      {"denormal", [](Layer& l, std::vector<float>& x, std::mt19937_64& rng) {
         for (float& w : first_matrix(l)) w *= rng() % 2 == 0 ? 1e-38f : 1e-43f;
         for (float& b : first_bias(l)) b *= 1e-43f;
         for (float& v : x) v *= rng() % 2 == 0 ? 1.0f : 1e-41f;
       }},
      {"denormal everywhere", [](Layer& l, std::vector<float>& x, std::mt19937_64&) {
         for (float& w : first_matrix(l)) w *= 1e-42f;
         for (float& b : first_bias(l)) b *= 1e-44f;
         for (float& v : x) v *= 1e-42f;
       }},
      {"zeros", [](Layer& l, std::vector<float>& x, std::mt19937_64& rng) {
         std::vector<float>& m = first_matrix(l);
         const auto d = static_cast<std::size_t>(l.problem.d_model);
         for (std::size_t i = 0; i < m.size(); ++i) {
           if (i / d % 3 == 0 || rng() % 4 == 0) m[i] = rng() % 2 == 0 ? 0.0f : -0.0f;
         }
         for (std::size_t j = 0; j < first_bias(l).size(); j += 2) first_bias(l)[j] = j % 4 == 0 ? 0.0f : -0.0f;
         for (std::size_t k = 0; k < x.size(); k += 5) x[k] = -0.0f;
       }},
      {"x zero", [](Layer&, std::vector<float>& x, std::mt19937_64&) { std::fill(x.begin(), x.end(), 0.0f); }},
      {"z a rounding error from zero", [](Layer& l, std::vector<float>& x, std::mt19937_64& rng) {
         cancel(first_matrix(l), first_bias(l), l, x, rng);
       }},
      {"z a rounding error from zero, large terms", [](Layer& l, std::vector<float>& x, std::mt19937_64& rng) {
         for (float& w : first_matrix(l)) w *= 4096.0f;
         cancel(first_matrix(l), first_bias(l), l, x, rng);
       }},
      {"not finite here and there", [](Layer& l, std::vector<float>&, std::mt19937_64& rng) {
         const float bad[] = {kInf, -kInf, std::nanf("")};
         for (std::vector<float>* m : {&l.up, &l.gate, &l.up_bias, &l.gate_bias, &l.down}) {
           for (int i = 0; i < 3 && !m->empty(); ++i) (*m)[rng() % m->size()] = bad[rng() % 3];
         }
       }},
      {"x not finite", [](Layer&, std::vector<float>& x, std::mt19937_64& rng) {
         x[rng() % x.size()] = rng() % 2 == 0 ? kInf : std::nanf("");
       }},
  };
  return all;
}

struct Case {
  Layer layer;
  std::vector<float> x;
};
inline Case make_case(const Adversary& adversary, const Problem& problem, bool biases, std::mt19937_64& rng) {
  Case c{gaussian_layer(problem, biases, rng), gaussian_input(problem, rng)};
  for (float& b : first_bias(c.layer)) b -= 0.5f;
  adversary.change(c.layer, c.x, rng);
  c.layer.round_to_dtype();
  return c;
}

/// Tokens of a case, padded and quantized.
struct Tokens {
  std::vector<float> padded;
  std::vector<QuantizedQuad> quads;
  std::vector<QuantizedGroup> groups;
  std::vector<QuantizedToken> tokens;

  Tokens(PanelLayout layout, const Problem& p, const std::vector<float>& x)
      : padded(static_cast<std::size_t>(p.batch * layout.columns)),
        quads(padded.size() / 4),
        groups(static_cast<std::size_t>(p.batch * layout.groups())) {
    for (index_t b = 0; b < p.batch; ++b) {
      std::copy_n(x.begin() + b * p.d_model, p.d_model, padded.begin() + b * layout.columns);
      tokens.push_back(quantize_token(layout, padded.data() + b * layout.columns, quads.data() + b * layout.columns / 4,
                                      groups.data() + b * layout.groups()));
    }
  }
};

struct Outcome {
  std::vector<float> y;
  std::vector<std::uint8_t> mask;
  Statistics statistics;
};

inline Outcome run(const Weights& w, const Plan& plan, const Case& c, cpu::Isa isa, int threads) {
  const index_t batch = c.layer.problem.batch;
  auto ffn = cpu::Ffn::create(w, plan, batch, {threads, isa});
  REQUIRE_MESSAGE(ffn, ffn.message());
  Outcome o{std::vector<float>(c.x.size(), std::nanf("")), std::vector<std::uint8_t>(static_cast<std::size_t>(batch * w.d_ff()), 7), {}};
  REQUIRE(ffn->run(c.x, o.y, o.mask));
  o.statistics = ffn->report().statistics;
  return o;
}

}  // namespace signsplit::test
