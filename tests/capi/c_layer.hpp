// A layer in plain arrays, for the C interface and, packed, for the C++ one.
#pragma once

#include <bit>
#include <memory>
#include <vector>

#include "core/small_layer.hpp"
#include "seed.hpp"
#include "signsplit/signsplit.h"
#include "signsplit/synthetic.hpp"

namespace signsplit::test {

/// Handles of the C interface that release themselves.
struct Destroy {
  void operator()(signsplit_weights* handle) const { signsplit_weights_destroy(handle); }
  void operator()(signsplit_ffn* handle) const { signsplit_ffn_destroy(handle); }
  void operator()(signsplit_reference* handle) const { signsplit_reference_destroy(handle); }
  void operator()(char* string) const { signsplit_string_destroy(string); }
};
template <class T>
using Handle = std::unique_ptr<T, Destroy>;

/// A random layer; `which` tells those of one seed apart.
inline SmallLayer random_layer(const LayerShape& shape, std::uint64_t which = 0) {
  std::uint64_t index = which << 32;
  return make_layer(shape, [&index] { return static_cast<float>(random_normal(seed(), index++)); });
}

/// The matrices of a layer as bits of its dtype.
inline std::vector<std::uint16_t> bf16_bits(const std::vector<float>& values) {
  std::vector<std::uint16_t> bits;
  for (const float value : values) bits.push_back(to_bf16(value).bits);
  return bits;
}

/// The layer through signsplit_weights_create.
inline signsplit_status create(const SmallLayer& layer, Handle<signsplit_weights>& weights) {
  const bool narrow = layer.dtype == DType::bf16;
  const auto up = bf16_bits(layer.up), gate = bf16_bits(layer.gate), down = bf16_bits(layer.down);
  const auto matrix = [narrow](const std::vector<float>& wide, const std::vector<std::uint16_t>& bits) {
    return wide.empty() ? nullptr : narrow ? static_cast<const void*>(bits.data()) : wide.data();
  };
  const auto bias = [](const std::vector<float>& values) { return values.empty() ? nullptr : values.data(); };
  const std::string activation = to_string(layer.activation, layer.gated());
  signsplit_layer c = signsplit_layer_make(layer.d, layer.f, narrow ? SIGNSPLIT_BF16 : SIGNSPLIT_F32);
  c.activation = activation.c_str();
  c.up = matrix(layer.up, up);
  c.gate = matrix(layer.gate, gate);
  c.down = matrix(layer.down, down);
  c.up_bias = bias(layer.up_bias);
  c.gate_bias = bias(layer.gate_bias);
  c.down_bias = bias(layer.down_bias);
  signsplit_weights* handle = nullptr;
  const signsplit_status status = signsplit_weights_create(&c, &handle);
  weights.reset(handle);
  return status;
}

inline std::vector<std::uint32_t> bits(std::span<const float> values) {
  std::vector<std::uint32_t> all;
  for (const float value : values) all.push_back(std::bit_cast<std::uint32_t>(value));
  return all;
}

}  // namespace signsplit::test
