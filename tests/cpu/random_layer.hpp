// Small layers for the executor's tests, owned in the frameworks' layout so that tests can compute on them directly.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <span>
#include <stdexcept>
#include <vector>

#include "signsplit/plan.hpp"
#include "signsplit/weights.hpp"

namespace signsplit::test {

struct Layer {
  Problem problem;
  std::vector<float> up, gate, down, up_bias, gate_bias, down_bias;  // up, gate [F, D]; down [D, F]

  /// Element values after rounding to the layer's dtype.
  [[nodiscard]] float stored(float v) const { return problem.dtype == DType::f32 ? v : to_float(to_bf16(v)); }
  void round_to_dtype() {
    for (std::vector<float>* m : {&up, &gate, &down}) {
      for (float& v : *m) v = stored(v);
    }
  }

  [[nodiscard]] Weights pack() const {
    const auto bytes = [&](const std::vector<float>& m) {
      std::vector<std::byte> out(m.size() * static_cast<std::size_t>(dtype_bytes(problem.dtype)));
      for (std::size_t i = 0; i < m.size(); ++i) {
        if (problem.dtype == DType::f32) {
          std::memcpy(out.data() + 4 * i, &m[i], 4);
        } else {
          const bf16 v = to_bf16(m[i]);
          std::memcpy(out.data() + 2 * i, &v, 2);
        }
      }
      return out;
    };
    const auto u = bytes(up), g = bytes(gate), d = bytes(down);
    LayerTensors t;
    t.d_model = problem.d_model;
    t.d_ff = problem.d_ff;
    t.dtype = problem.dtype;
    t.activation = problem.activation;
    t.up = u;
    t.gate = g;
    t.down = d;
    t.up_bias = up_bias;
    t.gate_bias = gate_bias;
    t.down_bias = down_bias;
    auto packed = Weights::pack(t);
    if (!packed) throw std::runtime_error(packed.message());
    return std::move(packed).value();
  }
};

/// Values of draw(), rounded to the dtype. Biases on every other layer.
template <class Draw>
Layer make_layer(const Problem& problem, bool biases, Draw&& draw) {
  Layer layer;
  layer.problem = problem;
  const auto d = static_cast<std::size_t>(problem.d_model), f = static_cast<std::size_t>(problem.d_ff);
  const auto fill = [&](std::vector<float>& v, std::size_t n) {
    v.resize(n);
    for (float& e : v) e = static_cast<float>(draw());
  };
  fill(layer.up, f * d);
  fill(layer.down, d * f);
  if (problem.gated) fill(layer.gate, f * d);
  if (biases) {
    fill(layer.up_bias, f);
    fill(layer.down_bias, d);
    if (problem.gated) fill(layer.gate_bias, f);
  }
  layer.round_to_dtype();
  return layer;
}

inline Layer gaussian_layer(const Problem& problem, bool biases, std::mt19937_64& rng) {
  std::normal_distribution<double> normal(0.0, 1.0 / std::sqrt(static_cast<double>(problem.d_model)));
  return make_layer(problem, biases, [&] { return normal(rng); });
}

inline std::vector<float> gaussian_input(const Problem& problem, std::mt19937_64& rng) {
  std::normal_distribution<double> normal;
  std::vector<float> x(static_cast<std::size_t>(problem.batch * problem.d_model));
  for (float& v : x) v = static_cast<float>(normal(rng));
  return x;
}

/// Every activation with what it needs.
struct ActivationCase {
  Activation activation;
  bool gated;
};
inline std::vector<ActivationCase> all_activations() {
  using enum ActivationKind;
  return {{{relu}, false},        {{relu2}, false},         {{fatrelu, 0.25f}, false}, {{identity}, false}, {{relu}, true},
          {{relu2}, true}, {{fatrelu, 0.125f}, true}, {{drelu}, true},          {{identity}, true}};
}

/// Every valid combination of strategy, variant and repair for a problem, with and without skip; certified with several planes.
inline std::vector<Plan> all_plans(const Problem& problem, index_t k_tile) {
  std::vector<Plan> plans;
  for (const auto& [bits, group] : {std::pair<index_t, index_t>{8, 64}, {6, 128}}) {
    Plan p = default_plan(problem, Strategy::certified);
    p.plane_bits = bits;
    p.plane_group = group;
    if (validate(p, problem)) plans.push_back(p);
  }
  for (const bool skip : {false, true}) {
    for (const Strategy s : {Strategy::row_fused, Strategy::unfused}) plans.push_back(default_plan(problem, s, skip));
    for (const Variant v : {Variant::interim, Variant::streams, Variant::telescoping, Variant::ignore}) {
      for (const Repair r : {Repair::none, Repair::selective, Repair::full, Repair::redo}) {
        Plan p = default_plan(problem, Strategy::sign_split, skip);
        p.variant = v;
        p.repair = r;
        p.k_tile = k_tile;
        if (validate(p, problem)) plans.push_back(p);
      }
    }
  }
  return plans;
}

/// Equal bit for bit, NaN included.
inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

}  // namespace signsplit::test
