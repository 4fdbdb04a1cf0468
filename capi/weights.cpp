// signsplit_weights: layers from memory and from files.
#include "guard.hpp"
#include "handles.hpp"

namespace signsplit::capi {
namespace {

Result<ParsedActivation> parse(const char* text) {
  if (text == nullptr) return ParsedActivation{};
  if (const auto parsed = parse_activation(text)) return *parsed;
  return invalid_argument("activation \"" + std::string(text) + "\" is unknown: known are " + kActivationNames);
}

Status check_layer(const signsplit_layer& layer) {
  if (layer.struct_size < sizeof(signsplit_layer)) {
    return invalid_argument("layer.struct_size must be sizeof(signsplit_layer), " + std::to_string(sizeof(signsplit_layer)) +
                            " or more (got " + std::to_string(layer.struct_size) + ")");
  }
  if (layer.dtype != SIGNSPLIT_F32 && layer.dtype != SIGNSPLIT_BF16 && layer.dtype != SIGNSPLIT_F16) {
    return invalid_argument("layer.dtype must be SIGNSPLIT_F32, SIGNSPLIT_BF16 or SIGNSPLIT_F16 (got " + std::to_string(layer.dtype) + ")");
  }
  if (Status status = require(layer.up, "layer.up"); !status) return status;
  if (Status status = require(layer.down, "layer.down"); !status) return status;
  if (layer.gate_bias != nullptr && layer.gate == nullptr) return invalid_argument("layer.gate_bias needs layer.gate");
  return {};
}

static_assert(SIGNSPLIT_F32 == static_cast<int>(DType::f32) && SIGNSPLIT_BF16 == static_cast<int>(DType::bf16) &&
                  SIGNSPLIT_F16 == static_cast<int>(DType::f16) && SIGNSPLIT_INT8 == static_cast<int>(DType::int8),
              "the numbers of signsplit.h are those of DType");

/// The same layer as spans. The extents must be valid: they give the sizes.
LayerTensors borrow(const signsplit_layer& layer, const Problem& problem) {
  const auto d = static_cast<std::size_t>(problem.d_model), f = static_cast<std::size_t>(problem.d_ff);
  const std::size_t matrix_bytes = d * f * static_cast<std::size_t>(dtype_bytes(problem.dtype));
  const auto matrix = [&](const void* data) {
    return data == nullptr ? std::span<const std::byte>() : std::span(static_cast<const std::byte*>(data), matrix_bytes);
  };
  const auto bias = [](const float* data, std::size_t count) {
    return data == nullptr ? std::span<const float>() : std::span(data, count);
  };
  LayerTensors tensors;
  tensors.d_model = problem.d_model;
  tensors.d_ff = problem.d_ff;
  tensors.dtype = problem.dtype;
  tensors.activation = problem.activation;
  tensors.up = matrix(layer.up);
  tensors.gate = matrix(layer.gate);
  tensors.down = matrix(layer.down);
  tensors.up_bias = bias(layer.up_bias, f);
  tensors.gate_bias = bias(layer.gate_bias, f);
  tensors.down_bias = bias(layer.down_bias, d);
  return tensors;
}

Result<Weights> pack(const signsplit_layer& layer) {
  if (Status status = check_layer(layer); !status) return status;
  const Result<ParsedActivation> activation = parse(layer.activation);
  if (!activation) return activation.status();
  const bool gated = layer.gate != nullptr;
  if (activation->must_be_gated && !gated) {
    return invalid_argument("activation \"" + std::string(layer.activation) + "\" needs layer.gate");
  }
  const Problem problem{.d_model = layer.d_model,
                        .d_ff = layer.d_ff,
                        .dtype = static_cast<DType>(layer.dtype),
                        .activation = activation->activation,
                        .gated = gated};
  if (Status status = validate(problem); !status) return status;
  return Weights::pack(borrow(layer, problem));
}

Status hand_out(Result<Weights>&& packed, signsplit_weights** weights) {
  if (!packed) return packed.status();
  std::string activation = to_string(packed->activation(), packed->gated());
  auto layer = std::make_shared<const Weights>(std::move(*packed));
  *weights = new signsplit_weights{std::move(layer), std::move(activation)};
  return {};
}

}  // namespace
}  // namespace signsplit::capi

using namespace signsplit;
using namespace signsplit::capi;

extern "C" {

signsplit_status signsplit_weights_create(const signsplit_layer* layer, signsplit_weights** weights) {
  return guarded([&]() -> Status {
    if (Status status = require(weights, "weights"); !status) return status;
    *weights = nullptr;
    if (Status status = require(layer, "layer"); !status) return status;
    return hand_out(pack(*layer), weights);
  });
}

signsplit_status signsplit_weights_load(const char* file, const char* activation, signsplit_weights** weights) {
  return guarded([&]() -> Status {
    if (Status status = require(weights, "weights"); !status) return status;
    *weights = nullptr;
    if (Status status = require(file, "file"); !status) return status;
    if (activation == nullptr) return hand_out(load_weights(file), weights);
    const Result<ParsedActivation> parsed = parse(activation);
    return parsed ? hand_out(load_weights(file, *parsed), weights) : parsed.status();
  });
}

signsplit_status signsplit_weights_quantize(const signsplit_weights* weights, int64_t group, signsplit_weights** quantized) {
  return guarded([&]() -> Status {
    if (Status status = require(quantized, "quantized"); !status) return status;
    *quantized = nullptr;
    if (Status status = require(weights, "weights"); !status) return status;
    return hand_out(weights->layer->quantize(group), quantized);
  });
}

signsplit_status signsplit_weights_save(const signsplit_weights* weights, const char* file) {
  return guarded([&]() -> Status {
    if (Status status = require(weights, "weights"); !status) return status;
    if (Status status = require(file, "file"); !status) return status;
    return save_weights(file, *weights->layer);
  });
}

void signsplit_weights_destroy(signsplit_weights* weights) { delete weights; }

int64_t signsplit_weights_d_model(const signsplit_weights* weights) {
  return weights != nullptr ? weights->layer->d_model() : 0;
}
int64_t signsplit_weights_d_ff(const signsplit_weights* weights) { return weights != nullptr ? weights->layer->d_ff() : 0; }
signsplit_dtype signsplit_weights_dtype(const signsplit_weights* weights) {
  return weights != nullptr ? static_cast<signsplit_dtype>(weights->layer->dtype()) : SIGNSPLIT_F32;
}
int signsplit_weights_gated(const signsplit_weights* weights) {
  return weights != nullptr && weights->layer->gated() ? 1 : 0;
}
const char* signsplit_weights_activation(const signsplit_weights* weights) {
  return weights != nullptr ? weights->activation.c_str() : "";
}

}  // extern "C"
