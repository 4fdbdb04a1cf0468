// Small layers for the executor's tests, owned in the frameworks' layout so that tests can compute on them directly.
#pragma once

#include <algorithm>
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

  std::vector<float> up_scale, gate_scale, down_scale;                // int8, row-major as stored

  /// Rounds the element values to the layer's dtype. int8: integers in [−127, 127] keep their values, with scales of 1.
  void round_to_dtype() {
    if (problem.dtype == DType::int8) {
      round_to_int8(up, up_scale, problem.d_model);
      round_to_int8(gate, gate_scale, problem.d_model);
      round_to_int8(down, down_scale, problem.d_ff);
      return;
    }
    for (std::vector<float>* m : {&up, &gate, &down}) {
      for (float& v : *m) v = problem.dtype == DType::f32 ? v : problem.dtype == DType::f16 ? to_float(to_f16(v)) : to_float(to_bf16(v));
    }
  }
  void round_to_int8(std::vector<float>& m, std::vector<float>& scales, index_t length) const {
    const index_t group = problem.group == 0 ? length : problem.group;
    for (index_t begin = 0; begin < static_cast<index_t>(m.size());) {
      const index_t in_row = begin % length, count = std::min(group, length - in_row);
      float largest = 0.0f;
      bool integers = true;
      for (index_t i = begin; i < begin + count; ++i) {
        const float v = m[static_cast<std::size_t>(i)];
        largest = std::max(largest, std::abs(v));
        integers = integers && v == std::rint(v);
      }
      const float scale = integers && largest <= 127.0f ? 1.0f : to_float(to_bf16(largest / 120.0f));
      for (index_t i = begin; i < begin + count; ++i) m[static_cast<std::size_t>(i)] = scale * std::rint(m[static_cast<std::size_t>(i)] / scale);
      scales.push_back(scale);
      begin += count;
    }
  }
  /// The scale of element i of a stored matrix whose rows are `length` long.
  [[nodiscard]] float scale_of(const std::vector<float>& scales, std::size_t i, index_t length) const {
    const index_t at = static_cast<index_t>(i), groups = scale_count(problem, 0, length);
    const index_t group = problem.group == 0 ? 0 : at % length / problem.group;
    return scales[static_cast<std::size_t>(at / length * groups + group)];
  }

  [[nodiscard]] Weights pack() const {
    const auto bytes = [&](const std::vector<float>& m, const std::vector<float>& scales, index_t length) {
      const auto size = static_cast<std::size_t>(dtype_bytes(problem.dtype));
      std::vector<std::byte> out(m.size() * size);
      const auto put = [&](std::size_t i, auto v) { std::memcpy(out.data() + size * i, &v, sizeof v); };
      for (std::size_t i = 0; i < m.size(); ++i) {
        switch (problem.dtype) {
          case DType::f32: put(i, m[i]); break;
          case DType::bf16: put(i, to_bf16(m[i])); break;
          case DType::f16: put(i, to_f16(m[i])); break;
          case DType::int8: put(i, static_cast<std::int8_t>(m[i] == 0.0f ? 0.0f : std::rint(m[i] / scale_of(scales, i, length)))); break;
        }
      }
      return out;
    };
    const auto u = bytes(up, up_scale, problem.d_model), g = bytes(gate, gate_scale, problem.d_model);
    const auto d = bytes(down, down_scale, problem.d_ff);
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
    t.group = problem.group;
    t.up_scale = up_scale;
    t.gate_scale = gate_scale;
    t.down_scale = down_scale;
    auto packed = Weights::pack(t);
    if (!packed) throw std::runtime_error(packed.message());
    if (const Status status = packed->set_arithmetic(problem.arithmetic); !status) throw std::runtime_error(status.message());
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

/// A stored type, for int8 with a size of its groups.
struct Storage {
  DType dtype;
  index_t group = 0;
};
inline Storage any_storage(std::mt19937_64& rng) {
  constexpr Storage kAll[] = {{DType::f32}, {DType::bf16}, {DType::f16}, {DType::int8}, {DType::int8, 64}, {DType::int8, 128}};
  return kAll[rng() % std::size(kAll)];
}

/// Every activation with what it needs.
struct ActivationCase {
  Activation activation;
  bool gated;
};
inline std::vector<ActivationCase> all_activations() {
  using enum ActivationKind;
  return {{{relu}, false},        {{relu2}, false},         {{fatrelu, 0.25f}, false}, {{identity}, false}, {{relu}, true},
          {{relu2}, true}, {{fatrelu, 0.125f}, true}, {{drelu}, true},          {{identity}, true},
          {{gelu}, false}, {{gelu_tanh}, true}, {{silu}, true}};
}

/// Those that close units.
inline std::vector<ActivationCase> closing_activations() {
  std::vector<ActivationCase> cases = all_activations();
  std::erase_if(cases, [](const ActivationCase& c) { return !closes_units(c.activation); });
  return cases;
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
  Plan restored = default_plan(problem, Strategy::certified);
  restored.placement = Placement::residual;
  if (validate(restored, problem)) plans.push_back(restored);
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
