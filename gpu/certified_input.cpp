#include "certified_input.hpp"

#include <algorithm>

#include "signsplit/certificate.hpp"

namespace signsplit::gpu {

template <class T>
Status CertifiedInput::make(Both<T>& both, index_t count) {
  both.host.resize(static_cast<std::size_t>(count));
  auto device = allocate<T>(both.host.size(), "the quantized x");
  if (!device) return device.status();
  both.device = std::move(*device);
  return {};
}

template <class T>
Status CertifiedInput::send(const Both<T>& both, cudaStream_t stream) {
  const cudaError_t error = cudaMemcpyAsync(both.device.get(), both.host.data(), both.host.size() * sizeof(T), cudaMemcpyHostToDevice, stream);
  return cuda_status(error, "copying the quantized x");
}

Result<CertifiedInput> CertifiedInput::create(const KernelArguments& arguments) {
  const PanelLayout& layout = arguments.plane.layout;
  const index_t batch = arguments.problem.batch;
  CertifiedInput input;
  if (Status status = make(input.quads_, batch * layout.columns / 4); !status) return status;
  if (Status status = make(input.groups_, batch * layout.groups()); !status) return status;
  if (Status status = make(input.margins_, batch); !status) return status;
  input.padded_.assign(static_cast<std::size_t>(layout.columns), 0.0f);
  return input;
}

Status CertifiedInput::send(std::span<const float> x, const KernelArguments& arguments, cudaStream_t stream) {
  const PanelLayout& layout = arguments.plane.layout;
  const auto d = static_cast<std::ptrdiff_t>(arguments.problem.d_model);
  for (index_t token = 0; token < arguments.problem.batch; ++token) {
    std::copy_n(x.begin() + token * d, d, padded_.begin());
    const QuantizedToken quantized = quantize_token(layout, padded_.data(), quads_.host.data() + token * layout.columns / 4,
                                                    groups_.host.data() + token * layout.groups());
    margins_.host[static_cast<std::size_t>(token)] = quantized.margin;
  }
  if (Status status = send(quads_, stream); !status) return status;
  if (Status status = send(groups_, stream); !status) return status;
  return send(margins_, stream);
}

void CertifiedInput::bind(DevicePlane& plane) const {
  plane.quads = quads_.device.get();
  plane.groups = groups_.device.get();
  plane.margins = margins_.device.get();
}

}  // namespace signsplit::gpu
