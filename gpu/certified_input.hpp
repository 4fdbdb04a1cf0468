// What the certified kernels take besides the layer: x, quantized. Internal; builds with CUDA only.
#pragma once

#include <span>

#include "cuda_handles.hpp"
#include "kernel_arguments.hpp"

namespace signsplit::gpu {

/// x of a batch as the certificate wants it, quantized on the host and copied to the device.
class CertifiedInput {
 public:
  /// Memory for the batch of these arguments.
  [[nodiscard]] static Result<CertifiedInput> create(const KernelArguments& arguments);
  /// x [batch, d_model]; copies in the stream and does not wait: the copies read memory of this object.
  [[nodiscard]] Status send(std::span<const float> x, const KernelArguments& arguments, cudaStream_t stream);
  /// Lets the arguments point at it.
  void bind(DevicePlane& plane) const;

 private:
  template <class T>
  struct Both {
    std::vector<T> host;
    DeviceArray<T> device;
  };
  template <class T>
  static Status make(Both<T>& both, index_t count);
  template <class T>
  static Status send(const Both<T>& both, cudaStream_t stream);

  Both<QuantizedQuad> quads_;    // [batch, d_padded / 4]
  Both<QuantizedGroup> groups_;  // [batch, groups]
  Both<float> margins_;          // [batch]
  std::vector<float> padded_;    // [d_padded] of one token
};

}  // namespace signsplit::gpu
