#include "stored_layer.hpp"

#include <bit>
#include <cstring>
#include <new>

#include "transpose.hpp"

namespace signsplit {
namespace {

/// A row's values in the stored type, which has them all.
void narrow(std::span<const float> row, DType dtype, std::byte* out) {
  const auto size = static_cast<std::size_t>(dtype_bytes(dtype));
  for (const float value : row) {
    const std::uint32_t bits = dtype == DType::f32    ? std::bit_cast<std::uint32_t>(value)
                               : dtype == DType::bf16 ? std::bit_cast<std::uint32_t>(value) >> 16
                                                      : to_f16(value).bits;
    std::memcpy(out, &bits, size);
    out += size;
  }
}

/// Up or gate without its padding, [F, D], as stored in files.
AlignedBuffer unpadded(Matrix which, const Weights& weights) {
  const index_t row = weights.d_model() * dtype_bytes(weights.dtype());
  const std::byte* const matrix = which == Matrix::gate ? weights.gate() : weights.up();
  AlignedBuffer out(static_cast<std::size_t>(weights.d_ff() * row));
  if (out.data() == nullptr) return out;
  if (matrix == nullptr) {  // given up: restored
    std::vector<float> values(static_cast<std::size_t>(weights.d_model()));
    for (index_t j = 0; j < weights.d_ff(); ++j) {
      weights.read_row(which, j, 0, values);
      narrow(values, weights.dtype(), out.data() + j * row);
    }
    return out;
  }
  for (index_t j = 0; j < weights.d_ff(); ++j) {
    std::memcpy(out.data() + j * row, matrix + j * weights.row_bytes(), static_cast<std::size_t>(row));
  }
  return out;
}

AlignedBuffer unpacked_down(const Weights& weights) {
  const index_t element = dtype_bytes(weights.dtype());
  AlignedBuffer out(static_cast<std::size_t>(weights.d_ff() * weights.d_model() * element));
  if (out.data() == nullptr) return out;
  transpose(weights.down(), weights.d_ff(), weights.d_model(), weights.stride(), out.data(), weights.d_ff(), element);
  return out;
}

/// [G2, stride] to [D, G2].
std::vector<bf16> unpacked_down_scales(const Weights& weights) {
  const std::span<const bf16> packed = weights.down_scales();
  std::vector<bf16> scales;
  for (index_t d = 0; d < weights.d_model(); ++d) {
    for (index_t g = 0; g < weights.down_groups(); ++g) scales.push_back(packed[static_cast<std::size_t>(g * weights.stride() + d)]);
  }
  return scales;
}

const char* stored_name(DType dtype) {
  switch (dtype) {
    case DType::f32: return "F32";
    case DType::bf16: return "BF16";
    case DType::f16: return "F16";
    case DType::int8: return "I8";
  }
  return "";
}

void add_scales(const Weights& weights, StoredLayer& layer) {
  const index_t d = weights.d_model(), f = weights.d_ff();
  layer.metadata["group"] = std::to_string(weights.group());
  layer.down_scales = unpacked_down_scales(weights);
  layer.tensors["up.scale"] = {"BF16", {f, weights.input_groups()}, std::as_bytes(weights.up_scales())};
  layer.tensors["down.scale"] = {"BF16", {d, weights.down_groups()}, std::as_bytes(std::span(layer.down_scales))};
  if (weights.gated()) layer.tensors["gate.scale"] = {"BF16", {f, weights.input_groups()}, std::as_bytes(weights.gate_scales())};
}

}  // namespace

Result<StoredLayer> stored_layer(const Weights& weights) try {
  const index_t d = weights.d_model(), f = weights.d_ff();
  StoredLayer layer;
  bool enough = true;
  const auto add = [&](const char* name, std::vector<index_t> shape, AlignedBuffer buffer) {
    enough = enough && buffer.data() != nullptr;
    layer.tensors[name] = {stored_name(weights.dtype()), std::move(shape), {buffer.data(), buffer.size()}};
    layer.buffers.push_back(std::move(buffer));
  };
  add("up.weight", {f, d}, unpadded(Matrix::up, weights));
  add("down.weight", {d, f}, unpacked_down(weights));
  if (weights.gated()) add("gate.weight", {f, d}, unpadded(Matrix::gate, weights));
  if (!enough) return io_error("not enough memory to write " + describe(weights.problem()));
  layer.metadata["activation"] = to_string(weights.activation(), weights.gated());
  if (weights.dtype() == DType::int8) add_scales(weights, layer);
  const std::pair<const char*, std::span<const float>> biases[] = {
      {"up.bias", weights.up_bias()}, {"gate.bias", weights.gate_bias()}, {"down.bias", weights.down_bias()}};
  for (const auto& [name, bias] : biases) {
    if (!bias.empty()) layer.tensors[name] = {"F32", {static_cast<index_t>(bias.size())}, std::as_bytes(bias)};
  }
  return layer;
} catch (const std::bad_alloc&) {
  return io_error("not enough memory to write a layer");
}

}  // namespace signsplit
