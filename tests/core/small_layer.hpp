// SmallLayer: an FFN layer in plain vectors of floats, for tests that compute it by their own means.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "signsplit/weights.hpp"

namespace signsplit::test {

struct SmallLayer {
  index_t d = 0, f = 0;
  Activation activation = {};
  DType dtype = DType::f32;  // not int8
  std::vector<float> up = {}, gate = {}, down = {};                 // [F, D], [F, D] or empty, [D, F]; representable in dtype
  std::vector<float> up_bias = {}, gate_bias = {}, down_bias = {};  // or empty

  [[nodiscard]] bool gated() const { return !gate.empty(); }
  [[nodiscard]] float up_at(index_t j, index_t k) const { return up[static_cast<std::size_t>(j * d + k)]; }
  [[nodiscard]] float gate_at(index_t j, index_t k) const { return gate[static_cast<std::size_t>(j * d + k)]; }
  [[nodiscard]] float down_at(index_t j, index_t column) const { return down[static_cast<std::size_t>(column * f + j)]; }

  [[nodiscard]] Weights pack() const {
    std::vector<std::uint16_t> up16, gate16, down16;
    const auto bytes = [this](const std::vector<float>& values, std::vector<std::uint16_t>& narrow) {
      if (dtype == DType::f32) return std::as_bytes(std::span(values));
      for (const float v : values) narrow.push_back(dtype == DType::f16 ? to_f16(v).bits : to_bf16(v).bits);
      return std::as_bytes(std::span(std::as_const(narrow)));
    };
    LayerTensors layer;
    layer.d_model = d;
    layer.d_ff = f;
    layer.dtype = dtype;
    layer.activation = activation;
    layer.up = bytes(up, up16);
    layer.down = bytes(down, down16);
    layer.gate = bytes(gate, gate16);
    layer.up_bias = up_bias;
    layer.gate_bias = gate_bias;
    layer.down_bias = down_bias;
    auto packed = Weights::pack(layer);
    return std::move(packed.value());
  }
};

struct LayerShape {
  index_t d = 0, f = 0;
  Activation activation;
  bool gated = false, biased = false;
  DType dtype = DType::f32;
};

/// A layer whose every number comes from `draw`, rounded to the dtype.
inline SmallLayer make_layer(const LayerShape& shape, const std::function<float()>& draw) {
  SmallLayer layer{.d = shape.d, .f = shape.f, .activation = shape.activation, .dtype = shape.dtype};
  const auto fill = [&](std::vector<float>& values, index_t count, bool matrix) {
    for (index_t i = 0; i < count; ++i) {
      const float value = draw();
      if (matrix && shape.dtype == DType::bf16) {
        values.push_back(to_float(to_bf16(value)));
      } else {
        values.push_back(matrix && shape.dtype == DType::f16 ? to_float(to_f16(value)) : value);
      }
    }
  };
  fill(layer.up, shape.d * shape.f, true);
  fill(layer.down, shape.d * shape.f, true);
  if (shape.gated) fill(layer.gate, shape.d * shape.f, true);
  if (!shape.biased) return layer;
  fill(layer.up_bias, shape.f, false);
  fill(layer.down_bias, shape.d, false);
  if (shape.gated) fill(layer.gate_bias, shape.f, false);
  return layer;
}

}  // namespace signsplit::test
