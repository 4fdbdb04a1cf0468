#include <array>
#include <charconv>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "signsplit/safetensors.hpp"
#include "signsplit/weights.hpp"
#include "stored_layer.hpp"
#include "strict_json.hpp"

namespace signsplit {
namespace {

using Tensor = SafetensorsFile::Tensor;

constexpr std::string_view kTensorNames[] = {"up.weight", "gate.weight", "down.weight", "up.bias", "gate.bias", "down.bias",
                                             "up.scale", "gate.scale", "down.scale"};

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
  if (tensor.dtype == "F16") return DType::f16;
  if (tensor.dtype == "I8") return DType::int8;
  return std::nullopt;
}

Status unsupported_dtype(const Tensor& tensor) {
  return unsupported("dtype " + printable(tensor.dtype) + " is not supported by this version, which reads F32, BF16, F16 and I8");
}

/// Names that begin like a tensor of a layer, and are none, would change what the layer means: a scale, a misspelt bias.
Status check_names(const SafetensorsFile& file) {
  for (const auto& [name, tensor] : file.tensors()) {
    const bool ours = name.starts_with("up.") || name.starts_with("gate.") || name.starts_with("down.");
    bool known = false;
    for (const std::string_view one : kTensorNames) known = known || one == name;
    if (ours && !known) {
      return unsupported("tensor " + printable(name) +
                         ": not one that this version knows (up, gate, down, each .weight, .bias and .scale)");
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

/// A tensor of F32, BF16 or F16 as f32.
Status widen_tensor(const Tensor& tensor, std::vector<float>& values) {
  const std::optional<DType> dtype = stored_dtype(tensor);
  if (!dtype || *dtype == DType::int8) {
    return unsupported("dtype " + printable(tensor.dtype) + " is not supported here: must be F32, BF16 or F16");
  }
  values.resize(tensor.bytes.size() / static_cast<std::size_t>(dtype_bytes(*dtype)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (*dtype == DType::f32) {
      std::memcpy(&values[i], tensor.bytes.data() + 4 * i, 4);
      continue;
    }
    std::uint16_t bits;
    std::memcpy(&bits, tensor.bytes.data() + 2 * i, 2);
    values[i] = *dtype == DType::bf16 ? to_float(bf16{bits}) : to_float(f16{bits});
  }
  return {};
}

/// Widens a bias into `values`; left empty when the file has none.
Status read_bias(const SafetensorsFile& file, const char* name, index_t expected, const LayerTensors& layer,
                 std::vector<float>& values) {
  const Tensor* const tensor = file.find(name);
  if (tensor == nullptr) return {};
  if (Status status = widen_tensor(*tensor, values); !status) return about(name, status);
  if (Status status = check_shape(*tensor, {expected}, layer); !status) return about(name, status);
  return {};
}

/// Metadata `group`: elements that share a scale; 0 when there is none.
Status read_group(const SafetensorsFile& file, LayerTensors& layer) {
  const auto found = file.metadata().find("group");
  if (found == file.metadata().end()) return {};
  const std::string& text = found->second;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), layer.group);
  if (error != std::errc{} || end != text.data() + text.size() || layer.group < 0 || layer.group > kMaxExtent || layer.group % 64 != 0) {
    return invalid_argument("metadata group \"" + printable(text) + "\" must be 0 or a positive multiple of 64");
  }
  if (layer.group != 0 && layer.dtype != DType::int8) {
    return invalid_argument("metadata group " + text + ": only I8 matrices have groups (up.weight has another dtype)");
  }
  return {};
}

/// The scales of an I8 matrix of `rows` stored rows with `groups` groups each; without groups a vector is as good.
Status read_scales(const SafetensorsFile& file, const char* name, index_t rows, index_t groups, const LayerTensors& layer,
                   std::vector<float>& values) {
  const Tensor* const tensor = file.find(name);
  if (layer.dtype != DType::int8) {
    if (tensor == nullptr) return {};
    return invalid_argument(std::string("tensor ") + name + ": only I8 matrices have scales (up.weight has another dtype)");
  }
  if (tensor == nullptr) return not_found(std::string("tensor ") + name + ": is missing, and I8 matrices need scales");
  if (groups != 1 || tensor->shape != std::vector{rows}) {
    if (Status status = check_shape(*tensor, {rows, groups}, layer); !status) return about(name, status);
  }
  if (Status status = widen_tensor(*tensor, values); !status) return about(name, status);
  return {};
}

/// The activation of the file's metadata.
Result<ParsedActivation> stored_activation(const SafetensorsFile& file) {
  const auto found = file.metadata().find("activation");
  if (found == file.metadata().end()) {
    return invalid_argument(std::string("metadata has no `activation`: name one of ") + kActivationNames);
  }
  const std::string& name = found->second;
  if (const std::optional<ParsedActivation> parsed = parse_activation(name)) return *parsed;
  return corrupt_file("metadata activation \"" + printable(name) + "\" is unknown: known are " + kActivationNames);
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
  if (Status s = read_group(file, layer); !s) return s;
  std::vector<float> up_scale, gate_scale, down_scale;
  const Problem scaled{.dtype = layer.dtype, .group = layer.group};
  const index_t inputs = scale_count(scaled, 0, layer.d_model), outputs = scale_count(scaled, 0, layer.d_ff);
  if (Status s = read_scales(file, "up.scale", layer.d_ff, inputs, layer, up_scale); !s) return s;
  if (Status s = read_scales(file, "down.scale", layer.d_model, outputs, layer, down_scale); !s) return s;
  if (!layer.gate.empty()) {
    if (Status s = read_scales(file, "gate.scale", layer.d_ff, inputs, layer, gate_scale); !s) return s;
  } else if (file.find("gate.scale") != nullptr) {
    return not_found("tensor gate.weight: is missing, and there is a gate.scale");
  }
  layer.up_scale = up_scale;
  layer.gate_scale = gate_scale;
  layer.down_scale = down_scale;
  std::vector<float> up_bias, gate_bias, down_bias;
  if (Status s = read_bias(file, "up.bias", layer.d_ff, layer, up_bias); !s) return s;
  if (Status s = read_bias(file, "gate.bias", layer.d_ff, layer, gate_bias); !s) return s;
  if (Status s = read_bias(file, "down.bias", layer.d_model, layer, down_bias); !s) return s;
  layer.up_bias = up_bias;
  layer.gate_bias = gate_bias;
  layer.down_bias = down_bias;
  return Weights::pack(layer);
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
  const Result<StoredLayer> layer = stored_layer(weights);
  if (!layer) return Status(layer.status().code(), file.string() + ": " + layer.message());
  return write_safetensors(file, layer->tensors, layer->metadata);
} catch (const std::bad_alloc&) {
  return io_error("not enough memory to write a layer");
}

}  // namespace signsplit
