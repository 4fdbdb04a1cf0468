#include <array>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "signsplit/safetensors.hpp"
#include "signsplit/weights.hpp"
#include "strict_json.hpp"
#include "transpose.hpp"

namespace signsplit {
namespace {

using Tensor = SafetensorsFile::Tensor;

constexpr const char* kSupportedActivations = "relu, relu2, fatrelu:T, reglu, drelu, identity";
constexpr std::string_view kTensorNames[] = {"up.weight", "gate.weight", "down.weight", "up.bias", "gate.bias", "down.bias"};

std::string shape_text(const std::vector<index_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

Status about(const char* name, const Status& status) {
  return {status.code(), "tensor " + std::string(name) + ": " + status.message()};
}

std::optional<DType> stored_dtype(const Tensor& tensor) {
  if (tensor.dtype == "F32") return DType::f32;
  if (tensor.dtype == "BF16") return DType::bf16;
  return std::nullopt;
}

Status unsupported_dtype(const Tensor& tensor) {
  return unsupported("dtype " + printable(tensor.dtype) + " is not supported by this version, which reads F32 and BF16");
}

/// Names that begin like a tensor of a layer, and are none, would change what the layer means: a scale, a misspelt bias.
Status check_names(const SafetensorsFile& file) {
  for (const auto& [name, tensor] : file.tensors()) {
    const bool ours = name.starts_with("up.") || name.starts_with("gate.") || name.starts_with("down.");
    bool known = false;
    for (const std::string_view one : kTensorNames) known = known || one == name;
    if (ours && !known) {
      return unsupported("tensor " + printable(name) +
                         ": not one that this version knows (up, gate, down, each .weight and .bias)");
    }
  }
  return {};
}

/// The shape of the layer, from up.weight [F, D].
Status read_extents(const SafetensorsFile& file, LayerTensors& layer) {
  const Tensor* const up = file.find("up.weight");
  if (up == nullptr) return not_found("tensor up.weight: is missing");
  if (up->shape.size() != 2) {
    return invalid_argument("tensor up.weight: shape " + shape_text(up->shape) + " must have two dimensions, [F, D]");
  }
  layer.d_ff = up->shape[0];
  layer.d_model = up->shape[1];
  if (layer.d_ff < 1 || layer.d_model < 1 || layer.d_ff > kMaxExtent || layer.d_model > kMaxExtent) {
    return invalid_argument("tensor up.weight: shape " + shape_text(up->shape) + " must have extents in [1, " +
                            std::to_string(kMaxExtent) + "]");
  }
  const std::optional<DType> dtype = stored_dtype(*up);
  if (!dtype) return about("up.weight", unsupported_dtype(*up));
  layer.dtype = *dtype;
  return {};
}

Status check_shape(const Tensor& tensor, const std::vector<index_t>& expected, const LayerTensors& layer) {
  if (tensor.shape == expected) return {};
  return invalid_argument("shape " + shape_text(tensor.shape) + " does not fit up.weight " +
                          shape_text({layer.d_ff, layer.d_model}) + ": expected " + shape_text(expected));
}

Status read_matrix_tensor(const Tensor& tensor, const std::vector<index_t>& expected, const LayerTensors& layer,
                          std::span<const std::byte>& bytes) {
  const std::optional<DType> dtype = stored_dtype(tensor);
  if (!dtype) return unsupported_dtype(tensor);
  if (*dtype != layer.dtype) {
    return unsupported("dtype " + tensor.dtype + " differs from up.weight's: all matrices must have one dtype");
  }
  bytes = tensor.bytes;
  return check_shape(tensor, expected, layer);
}

Status read_matrices(const SafetensorsFile& file, LayerTensors& layer) {
  const Tensor* const down = file.find("down.weight");
  if (down == nullptr) return not_found("tensor down.weight: is missing");
  if (Status s = read_matrix_tensor(*down, {layer.d_model, layer.d_ff}, layer, layer.down); !s) {
    return about("down.weight", s);
  }
  if (const Tensor* const gate = file.find("gate.weight")) {
    if (Status s = read_matrix_tensor(*gate, {layer.d_ff, layer.d_model}, layer, layer.gate); !s) {
      return about("gate.weight", s);
    }
  }
  layer.up = file.find("up.weight")->bytes;
  return {};
}

/// Widens a bias into `values`; left empty when the file has none.
Status read_bias(const SafetensorsFile& file, const char* name, index_t expected, const LayerTensors& layer,
                 std::vector<float>& values) {
  const Tensor* const tensor = file.find(name);
  if (tensor == nullptr) return {};
  const std::optional<DType> dtype = stored_dtype(*tensor);
  if (!dtype) return about(name, unsupported_dtype(*tensor));
  if (Status status = check_shape(*tensor, {expected}, layer); !status) return about(name, status);
  values.resize(static_cast<std::size_t>(expected));
  if (*dtype == DType::f32) {
    std::memcpy(values.data(), tensor->bytes.data(), tensor->bytes.size());
    return {};
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    bf16 value;
    std::memcpy(&value, tensor->bytes.data() + i * sizeof value, sizeof value);
    values[i] = to_float(value);
  }
  return {};
}

/// The activation of the file's metadata.
Result<ParsedActivation> stored_activation(const SafetensorsFile& file) {
  const auto found = file.metadata().find("activation");
  if (found == file.metadata().end()) {
    return invalid_argument(std::string("metadata has no `activation`: name one of ") + kSupportedActivations);
  }
  const std::string& name = found->second;
  if (const std::optional<ParsedActivation> parsed = parse_activation(name)) return *parsed;
  for (const std::string_view later : {"gelu", "gelu_tanh", "silu", "swiglu"}) {
    if (name == later) {
      return unsupported("metadata activation " + name + " is not supported by this version, which has " +
                         kSupportedActivations);
    }
  }
  return corrupt_file("metadata activation \"" + printable(name) + "\" is unknown: known are " + kSupportedActivations);
}

Status read_activation(const SafetensorsFile& file, const std::optional<ParsedActivation>& given, LayerTensors& layer) {
  const Result<ParsedActivation> activation = given ? Result<ParsedActivation>(*given) : stored_activation(file);
  if (!activation) return activation.status();
  layer.activation = activation->activation;
  const bool gated = file.find("gate.weight") != nullptr;
  if (activation->must_be_gated && !gated) {
    return not_found("tensor gate.weight: is missing, and activation " + to_string(layer.activation, true) + " needs it");
  }
  if (!gated && file.find("gate.bias") != nullptr) {
    return not_found("tensor gate.weight: is missing, and there is a gate.bias");
  }
  return {};
}

Result<Weights> read_layer(const SafetensorsFile& file, const std::optional<ParsedActivation>& activation) {
  LayerTensors layer;
  if (Status s = check_names(file); !s) return s;
  if (Status s = read_extents(file, layer); !s) return s;
  if (Status s = read_activation(file, activation, layer); !s) return s;
  if (Status s = read_matrices(file, layer); !s) return s;
  std::vector<float> up_bias, gate_bias, down_bias;
  if (Status s = read_bias(file, "up.bias", layer.d_ff, layer, up_bias); !s) return s;
  if (Status s = read_bias(file, "gate.bias", layer.d_ff, layer, gate_bias); !s) return s;
  if (Status s = read_bias(file, "down.bias", layer.d_model, layer, down_bias); !s) return s;
  layer.up_bias = up_bias;
  layer.gate_bias = gate_bias;
  layer.down_bias = down_bias;
  return Weights::pack(layer);
}

/// A packed matrix without its padding, [F, D], as stored in files.
AlignedBuffer unpadded(const std::byte* matrix, const Weights& weights) {
  const index_t row = weights.d_model() * dtype_bytes(weights.dtype());
  AlignedBuffer out(static_cast<std::size_t>(weights.d_ff() * row));
  if (out.data() == nullptr) return out;
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

}  // namespace

Result<Weights> load_weights(const std::filesystem::path& file, std::optional<ParsedActivation> activation) try {
  const Result<SafetensorsFile> opened = SafetensorsFile::open(file);
  if (!opened) return opened.status();
  Result<Weights> weights = read_layer(*opened, activation);
  if (!weights) return Status(weights.status().code(), file.string() + ": " + weights.message());
  return weights;
} catch (const std::bad_alloc&) {
  return io_error("not enough memory to load a layer");
}

Status save_weights(const std::filesystem::path& file, const Weights& weights) try {
  const index_t d = weights.d_model(), f = weights.d_ff();
  const std::string dtype = weights.dtype() == DType::f32 ? "F32" : "BF16";
  const AlignedBuffer up = unpadded(weights.up(), weights), down = unpacked_down(weights);
  const AlignedBuffer gate = weights.gated() ? unpadded(weights.gate(), weights) : AlignedBuffer();
  if (up.data() == nullptr || down.data() == nullptr || (weights.gated() && gate.data() == nullptr)) {
    return io_error(file.string() + ": not enough memory to write " + describe(weights.problem()));
  }
  std::map<std::string, Tensor> tensors;
  tensors["up.weight"] = {dtype, {f, d}, {up.data(), up.size()}};
  tensors["down.weight"] = {dtype, {d, f}, {down.data(), down.size()}};
  if (weights.gated()) tensors["gate.weight"] = {dtype, {f, d}, {gate.data(), gate.size()}};
  const std::pair<const char*, std::span<const float>> biases[] = {
      {"up.bias", weights.up_bias()}, {"gate.bias", weights.gate_bias()}, {"down.bias", weights.down_bias()}};
  for (const auto& [name, bias] : biases) {
    if (!bias.empty()) tensors[name] = {"F32", {static_cast<index_t>(bias.size())}, std::as_bytes(bias)};
  }
  return write_safetensors(file, tensors, {{"activation", to_string(weights.activation(), weights.gated())}});
} catch (const std::bad_alloc&) {
  return io_error("not enough memory to write a layer");
}

}  // namespace signsplit
