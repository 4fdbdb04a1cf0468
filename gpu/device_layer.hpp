// A layer in device memory. Internal; builds with CUDA only.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "cuda_handles.hpp"
#include "kernel_arguments.hpp"
#include "signsplit/certificate.hpp"
#include "signsplit/gpu.hpp"

namespace signsplit::gpu {

/// An array of a layer; what the layer has not is empty.
template <class T>
struct LayerArray {
  DeviceArray<T> data;
  std::size_t count = 0;

  [[nodiscard]] const T* get() const { return data.get(); }
};

/// A certificate of a layer.
struct DeviceCertificate {
  CertificateFormat format;
  float threshold = 0;
  LayerArray<std::byte> panels;
};

struct DeviceLayer::State {
  std::uint64_t id = 0;  ///< of no other layer, also when memory is used again
  const Weights* source = nullptr;
  Problem problem;
  int device = 0;
  LayerArray<std::byte> up, gate, down;
  LayerArray<float> up_bias, gate_bias, down_bias, up_norms, gate_norms;
  LayerArray<std::uint16_t> up_scales, gate_scales, down_scales;  ///< int8: the bits of bfloat16 values
  LayerArray<std::uint8_t> input_nonfinite, down_nonfinite;       ///< [F]; empty when there is no such row

  /// Made when a certified plan is first bound, in memory of this layer's own.
  mutable std::mutex certificates_mutex;
  mutable std::vector<std::unique_ptr<DeviceCertificate>> certificates;
  [[nodiscard]] Result<const DeviceCertificate*> certificate(CertificateFormat format) const;

  [[nodiscard]] std::size_t matrix_bytes() const { return up.count; }

  /// As the kernels take it.
  [[nodiscard]] DeviceWeights pointers() const {
    DeviceWeights weights;
    weights.up = up.get();
    weights.gate = gate.get();
    weights.down = down.get();
    weights.up_bias = up_bias.get();
    weights.gate_bias = gate_bias.get();
    weights.down_bias = down_bias.get();
    weights.up_norms = up_norms.get();
    weights.gate_norms = gate_norms.get();
    weights.up_scales = up_scales.get();
    weights.gate_scales = gate_scales.get();
    weights.down_scales = down_scales.get();
    weights.input_nonfinite = input_nonfinite.get();
    weights.down_nonfinite = down_nonfinite.get();
    return weights;
  }
};

}  // namespace signsplit::gpu
