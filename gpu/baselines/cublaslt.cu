#include "gpu/baselines/cublaslt.hpp"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <vector>

#include "../cuda_handles.hpp"

namespace signsplit::baselines {

namespace {

using gpu::cuda_status;
using gpu::DeviceArray;

constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;  // what NVIDIA advises for Hopper
constexpr int kCandidates = 8;                                  // asked of the heuristics, per product

Status cublas_status(cublasStatus_t status, const char* doing) {
  if (status == CUBLAS_STATUS_SUCCESS) return {};
  return io_error(std::string("cuBLAS, ") + doing + ": " + cublasGetStatusString(status));
}

/// What cublasGemmEx leaves to be done: bias [rows] or null, and relu. values is [columns, rows].
template <class T>
__global__ void bias_relu(T* values, const T* bias, bool relu, std::size_t rows, std::size_t count) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  float value = static_cast<float>(values[i]) + (bias == nullptr ? 0.0f : static_cast<float>(bias[i % rows]));
  if (relu) value = fmaxf(value, 0.0f);
  values[i] = static_cast<T>(value);
}

template <class T>
constexpr cudaDataType_t kType = CUDA_R_32F;
template <>
constexpr cudaDataType_t kType<__nv_bfloat16> = CUDA_R_16BF;
template <>
constexpr cudaDataType_t kType<__half> = CUDA_R_16F;

struct DestroyLt {
  void operator()(cublasLtHandle_t handle) const { cublasLtDestroy(handle); }
};
struct DestroyCublas {
  void operator()(cublasHandle_t handle) const { cublasDestroy(handle); }
};
struct DestroyDescription {
  void operator()(cublasLtMatmulDesc_t description) const { cublasLtMatmulDescDestroy(description); }
};
struct DestroyLayout {
  void operator()(cublasLtMatrixLayout_t layout) const { cublasLtMatrixLayoutDestroy(layout); }
};
template <class Pointer, class Destroy>
using Handle = std::unique_ptr<std::remove_pointer_t<Pointer>, Destroy>;

Result<Handle<cublasLtMatrixLayout_t, DestroyLayout>> make_layout(cudaDataType_t type, index_t rows, index_t columns, index_t ld) {
  cublasLtMatrixLayout_t layout = nullptr;
  const auto status = cublasLtMatrixLayoutCreate(&layout, type, static_cast<std::uint64_t>(rows),
                                                 static_cast<std::uint64_t>(columns), ld);
  if (Status made = cublas_status(status, "describing a matrix"); !made) return made;
  return Handle<cublasLtMatrixLayout_t, DestroyLayout>(layout);
}

/// One of the two products: out [batch, rows] = relu?(weights · in [batch, k] + bias). In cuBLAS's column-major words
/// `weights` is k × rows with leading dimension `ld`, transposed.
struct Product {
  index_t rows = 0, k = 0, ld = 0, batch = 1;
  bool relu = false;
  Handle<cublasLtMatmulDesc_t, DestroyDescription> description;
  Handle<cublasLtMatrixLayout_t, DestroyLayout> a, b, c;
  std::vector<cublasLtMatmulHeuristicResult_t> found;
  std::optional<std::size_t> chosen;  ///< of `found`; empty: cublasGemmEx

  [[nodiscard]] std::string choice() const {
    return chosen ? "cublasLt heuristic " + std::to_string(*chosen + 1) + " of " + std::to_string(found.size()) : "cublasGemmEx";
  }
};

template <class T>
class CublasLt final : public CublasLtFfn {
 public:
  static Result<std::unique_ptr<CublasLtFfn>> create(const Weights& weights, index_t batch, int device, double rotation_bytes);

  Result<double> run(std::span<const float> x, std::span<float> y) override;
  [[nodiscard]] std::size_t weight_bytes() const override { return static_cast<std::size_t>(2 * d_ * f_) * sizeof(T); }
  [[nodiscard]] std::string description() const override {
    return "cuBLAS " + std::to_string(cublasGetVersion_()) + ", x and h in the weights' type, f32 sums, one graph; product 1: " +
           up_.choice() + ", product 2: " + down_.choice();
  }

 private:
  struct Copy {
    DeviceArray<T> up, down;
  };

  [[nodiscard]] int cublasGetVersion_() const {
    int version = 0;
    return cublasGetVersion(cublas_.get(), &version) == CUBLAS_STATUS_SUCCESS ? version : 0;
  }
  Status open(const Weights& weights, double rotation_bytes);
  Status upload(const Weights& weights, double rotation_bytes);
  Status describe(Product& product, const T* bias, cudaDataType_t out_type);
  Status multiply(const Product& product, std::optional<std::size_t> algorithm, const T* weights, const T* in, void* out,
                  const T* bias, cudaStream_t stream) const;
  Status multiply_ex(const Product& product, const T* weights, const T* in, void* out, const T* bias, cudaStream_t stream) const;
  Status up_call(const Copy& copy, std::optional<std::size_t> algorithm, cudaStream_t stream) const {
    return multiply(up_, algorithm, copy.up.get(), x_.get(), h_.get(), up_bias_.get(), stream);
  }
  Status down_call(const Copy& copy, std::optional<std::size_t> algorithm, cudaStream_t stream) const {
    return multiply(down_, algorithm, copy.down.get(), h_.get(), y_.get(), down_bias_.get(), stream);
  }
  template <class Call>
  Result<double> seconds_per_copy(const Call& call) const;
  template <class Call>
  Status choose(Product& product, const Call& call);

  index_t d_ = 0, f_ = 0, batch_ = 1;
  int device_ = 0;
  Handle<cublasLtHandle_t, DestroyLt> lt_;
  Handle<cublasHandle_t, DestroyCublas> cublas_;
  gpu::Stream stream_;
  std::optional<gpu::DeviceClock> clock_;
  std::vector<Copy> copies_;
  DeviceArray<T> x_, h_, y_, up_bias_, down_bias_;
  DeviceArray<std::byte> workspace_;
  Product up_, down_;
  gpu::GraphExec graph_;
};

/// [rows, columns] of the layer's values, transposed or not, in the type of the device.
template <class T, class At>
Result<DeviceArray<T>> upload_matrix(index_t rows, index_t columns, const At& at) {
  std::vector<T> values(static_cast<std::size_t>(rows * columns));
  constexpr index_t kBlock = 64;  // square blocks: one of the two sides is read across its rows
  for (index_t r0 = 0; r0 < rows; r0 += kBlock) {
    for (index_t c0 = 0; c0 < columns; c0 += kBlock) {
      for (index_t r = r0; r < std::min(r0 + kBlock, rows); ++r) {
        for (index_t c = c0; c < std::min(c0 + kBlock, columns); ++c) {
          values[static_cast<std::size_t>(r * columns + c)] = static_cast<T>(at(r, c));
        }
      }
    }
  }
  return gpu::upload(std::span<const T>(values), "a baseline's weights");
}

template <class T>
Result<DeviceArray<T>> upload_vector(std::span<const float> from) {
  std::vector<T> values(from.size());
  std::transform(from.begin(), from.end(), values.begin(), [](float value) { return static_cast<T>(value); });
  return gpu::upload(std::span<const T>(values), "a baseline's vector");
}

template <class T>
bool take(DeviceArray<T>& to, Result<DeviceArray<T>> from, Status& status) {
  static_cast<void>(status = from.status());
  if (from) to = std::move(*from);
  return from.ok();
}

template <class T>
Status CublasLt<T>::upload(const Weights& weights, double rotation_bytes) {
  const auto d = static_cast<std::size_t>(d_), f = static_cast<std::size_t>(f_), b = static_cast<std::size_t>(batch_);
  Status status;
  Copy first;
  const bool filled =
      take(first.up, upload_matrix<T>(f_, d_, [&](index_t j, index_t k) { return weights.up_at(j, k); }), status) &&
      take(first.down, upload_matrix<T>(d_, f_, [&](index_t i, index_t j) { return weights.down_at(j, i); }), status) &&
      take(up_bias_, upload_vector<T>(weights.up_bias()), status) &&
      take(down_bias_, upload_vector<T>(weights.down_bias()), status) &&
      take(x_, gpu::allocate<T>(b * d, "x"), status) && take(h_, gpu::allocate<T>(b * f, "h"), status) &&
      take(y_, gpu::allocate<T>(b * d, "y"), status) &&
      take(workspace_, gpu::allocate<std::byte>(kWorkspaceBytes, "cuBLAS's workspace"), status);
  if (!filled) return status;
  copies_.push_back(std::move(first));
  const auto wanted = static_cast<std::size_t>(std::max(2.0, std::ceil(rotation_bytes / static_cast<double>(weight_bytes()))));
  while (copies_.size() < wanted) {
    Copy copy;
    if (!take(copy.up, gpu::allocate<T>(f * d, "a copy"), status)) return status;
    if (!take(copy.down, gpu::allocate<T>(f * d, "a copy"), status)) return status;
    const Copy& from = copies_.front();
    const cudaError_t up = cudaMemcpy(copy.up.get(), from.up.get(), f * d * sizeof(T), cudaMemcpyDeviceToDevice);
    const cudaError_t down = cudaMemcpy(copy.down.get(), from.down.get(), f * d * sizeof(T), cudaMemcpyDeviceToDevice);
    if (status = cuda_status(up != cudaSuccess ? up : down, "copying weights"); !status) return status;
    copies_.push_back(std::move(copy));
  }
  return gpu::wait_for_default_stream();
}

template <class T>
Status CublasLt<T>::describe(Product& product, const T* bias, cudaDataType_t out_type) {
  cublasLtMatmulDesc_t description = nullptr;
  const auto created = cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  if (Status status = cublas_status(created, "describing a product"); !status) return status;
  product.description.reset(description);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    return cublas_status(cublasLtMatmulDescSetAttribute(description, attribute, &value, sizeof(value)), "describing a product");
  };
  const cublasOperation_t transposed = CUBLAS_OP_T;
  if (Status status = set(CUBLASLT_MATMUL_DESC_TRANSA, transposed); !status) return status;
  const cublasLtEpilogue_t with_bias = product.relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
  const cublasLtEpilogue_t without = product.relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT;
  if (Status status = set(CUBLASLT_MATMUL_DESC_EPILOGUE, bias != nullptr ? with_bias : without); !status) return status;
  if (bias != nullptr) {
    if (Status status = set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias); !status) return status;
  }
  auto a = make_layout(kType<T>, product.k, product.rows, product.ld), b = make_layout(kType<T>, product.k, product.batch, product.k),
       c = make_layout(out_type, product.rows, product.batch, product.rows);
  if (!a) return a.status();
  if (!b) return b.status();
  if (!c) return c.status();
  product.a = std::move(*a);
  product.b = std::move(*b);
  product.c = std::move(*c);

  cublasLtMatmulPreference_t preference = nullptr;
  if (Status status = cublas_status(cublasLtMatmulPreferenceCreate(&preference), "asking for algorithms"); !status) return status;
  const std::size_t bytes = kWorkspaceBytes;
  cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof(bytes));
  std::array<cublasLtMatmulHeuristicResult_t, kCandidates> found{};
  int count = 0;
  const auto asked = cublasLtMatmulAlgoGetHeuristic(lt_.get(), description, product.a.get(), product.b.get(), product.c.get(),
                                                    product.c.get(), preference, kCandidates, found.data(), &count);
  cublasLtMatmulPreferenceDestroy(preference);
  if (asked == CUBLAS_STATUS_SUCCESS) product.found.assign(found.begin(), found.begin() + count);
  return {};  // without a heuristic there is still cublasGemmEx
}

template <class T>
Status CublasLt<T>::multiply(const Product& product, std::optional<std::size_t> algorithm, const T* weights, const T* in,
                             void* out, const T* bias, cudaStream_t stream) const {
  if (!algorithm) return multiply_ex(product, weights, in, out, bias, stream);
  const float one = 1, zero = 0;
  const auto status = cublasLtMatmul(lt_.get(), product.description.get(), &one, weights, product.a.get(), in, product.b.get(), &zero,
                                     out, product.c.get(), out, product.c.get(), &product.found[*algorithm].algo,
                                     workspace_.get(), kWorkspaceBytes, stream);
  return cublas_status(status, "multiplying with cublasLt");
}

template <class T>
Status CublasLt<T>::multiply_ex(const Product& product, const T* weights, const T* in, void* out, const T* bias,
                                cudaStream_t stream) const {
  const float one = 1, zero = 0;
  if (Status status = cublas_status(cublasSetStream(cublas_.get(), stream), "choosing a stream"); !status) return status;
  const auto done = cublasGemmEx(cublas_.get(), CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(product.rows),
                                 static_cast<int>(product.batch), static_cast<int>(product.k), &one, weights, kType<T>,
                                 static_cast<int>(product.ld), in, kType<T>, static_cast<int>(product.k), &zero, out, kType<T>,
                                 static_cast<int>(product.rows), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  if (Status status = cublas_status(done, "multiplying with cublasGemmEx"); !status) return status;
  if (bias == nullptr && !product.relu) return {};
  const auto rows = static_cast<std::size_t>(product.rows), count = rows * static_cast<std::size_t>(product.batch);
  bias_relu<T><<<static_cast<unsigned>((count + 255) / 256), 256, 0, stream>>>(static_cast<T*>(out), bias, product.relu, rows, count);
  return cuda_status(cudaGetLastError(), "launching the epilogue");
}

/// Of a graph that makes the call on every copy; the second launch of two.
template <class T>
template <class Call>
Result<double> CublasLt<T>::seconds_per_copy(const Call& call) const {
  auto graph = gpu::capture(stream_.get(), [&](cudaStream_t stream) -> Status {
    for (const Copy& copy : copies_) {
      if (Status status = call(copy, stream); !status) return status;
    }
    return {};
  });
  if (!graph) return graph.status();
  const auto once = [&](cudaStream_t stream) { return cuda_status(cudaGraphLaunch(graph->get(), stream), "launching a graph"); };
  if (const auto warm_up = clock_->seconds(stream_.get(), once); !warm_up) return warm_up;
  const auto seconds = clock_->seconds(stream_.get(), once);
  if (!seconds) return seconds;
  return *seconds / static_cast<double>(copies_.size());
}

/// The fastest way that works.
template <class T>
template <class Call>
Status CublasLt<T>::choose(Product& product, const Call& call) {
  std::optional<double> best;
  Status last;
  const auto try_one = [&](std::optional<std::size_t> algorithm) {
    const auto seconds = seconds_per_copy([&](const Copy& copy, cudaStream_t stream) { return call(copy, algorithm, stream); });
    if (!seconds) {
      static_cast<void>(last = seconds.status());
    } else if (!best || *seconds < *best) {
      best = *seconds;
      product.chosen = algorithm;
    }
  };
  try_one(std::nullopt);
  for (std::size_t i = 0; i < product.found.size(); ++i) try_one(i);
  return best ? Status{} : last;
}

template <class T>
Status CublasLt<T>::open(const Weights& weights, double rotation_bytes) {
  if (Status status = cuda_status(cudaSetDevice(device_), "selecting a device"); !status) return status;
  cublasLtHandle_t lt = nullptr;
  if (Status status = cublas_status(cublasLtCreate(&lt), "starting cublasLt"); !status) return status;
  lt_.reset(lt);
  cublasHandle_t cublas = nullptr;
  if (Status status = cublas_status(cublasCreate(&cublas), "starting cuBLAS"); !status) return status;
  cublas_.reset(cublas);
  auto stream = gpu::make_stream();
  if (!stream) return stream.status();
  stream_ = std::move(*stream);
  auto clock = gpu::DeviceClock::create();
  if (!clock) return clock.status();
  clock_.emplace(std::move(*clock));
  if (Status status = upload(weights, rotation_bytes); !status) return status;
  // Inside a graph cuBLAS may allocate nothing.
  const auto workspace = cublasSetWorkspace(cublas, workspace_.get(), kWorkspaceBytes);
  if (Status status = cublas_status(workspace, "giving cuBLAS its workspace"); !status) return status;

  up_.rows = f_, up_.k = d_, up_.ld = d_, up_.batch = batch_, up_.relu = true;
  down_.rows = d_, down_.k = f_, down_.ld = f_, down_.batch = batch_;
  if (Status status = describe(up_, up_bias_.get(), kType<T>); !status) return status;
  if (Status status = describe(down_, down_bias_.get(), kType<T>); !status) return status;
  const auto up = [this](const Copy& copy, std::optional<std::size_t> algorithm, cudaStream_t into) {
    return up_call(copy, algorithm, into);
  };
  const auto down = [this](const Copy& copy, std::optional<std::size_t> algorithm, cudaStream_t into) {
    return down_call(copy, algorithm, into);
  };
  // Something to multiply: denormals and NaN from memory that nobody wrote could take another time.
  const std::vector<float> input(static_cast<std::size_t>(batch_ * std::max(d_, f_)), 0.5f);
  auto values = upload_vector<T>(input);
  if (!values) return values.status();
  const cudaError_t to_x = cudaMemcpy(x_.get(), values->get(), static_cast<std::size_t>(batch_ * d_) * sizeof(T), cudaMemcpyDeviceToDevice);
  const cudaError_t to_h = cudaMemcpy(h_.get(), values->get(), static_cast<std::size_t>(batch_ * f_) * sizeof(T), cudaMemcpyDeviceToDevice);
  if (Status status = cuda_status(to_x != cudaSuccess ? to_x : to_h, "copying an input"); !status) return status;
  if (Status status = gpu::wait_for_default_stream(); !status) return status;
  if (Status status = choose(up_, up); !status) return status;
  if (Status status = choose(down_, down); !status) return status;
  auto graph = gpu::capture(stream_.get(), [&](cudaStream_t into) -> Status {
    for (const Copy& copy : copies_) {
      if (Status status = up(copy, up_.chosen, into); !status) return status;
      if (Status status = down(copy, down_.chosen, into); !status) return status;
    }
    return {};
  });
  if (!graph) return graph.status();
  graph_ = std::move(*graph);
  return {};
}

template <class T>
Result<std::unique_ptr<CublasLtFfn>> CublasLt<T>::create(const Weights& weights, index_t batch, int device, double rotation_bytes) {
  auto ffn = std::make_unique<CublasLt<T>>();
  ffn->d_ = weights.d_model();
  ffn->f_ = weights.d_ff();
  ffn->batch_ = batch;
  ffn->device_ = device;
  if (Status status = ffn->open(weights, rotation_bytes); !status) return status;
  return std::unique_ptr<CublasLtFfn>(std::move(ffn));
}

template <class T>
Result<double> CublasLt<T>::run(std::span<const float> x, std::span<float> y) {
  const auto count = static_cast<std::size_t>(batch_ * d_);
  if (x.size() != count || y.size() != count) return invalid_argument("x and y must hold batch * d_model floats");
  std::vector<T> values(count);
  std::transform(x.begin(), x.end(), values.begin(), [](float value) { return static_cast<T>(value); });
  const cudaError_t sent = cudaMemcpy(x_.get(), values.data(), count * sizeof(T), cudaMemcpyHostToDevice);
  if (Status status = cuda_status(sent, "copying x"); !status) return status;
  if (Status status = gpu::wait_for_default_stream(); !status) return status;
  const auto seconds = clock_->seconds(
      stream_.get(), [&](cudaStream_t into) { return cuda_status(cudaGraphLaunch(graph_.get(), into), "launching a graph"); });
  if (!seconds) return seconds;
  const cudaError_t received = cudaMemcpy(values.data(), y_.get(), count * sizeof(T), cudaMemcpyDeviceToHost);
  if (Status status = cuda_status(received, "copying y"); !status) return status;
  std::transform(values.begin(), values.end(), y.begin(), [](T value) { return static_cast<float>(value); });
  return *seconds / static_cast<double>(copies_.size());
}

}  // namespace

extern "C" __attribute__((visibility("default"))) Result<std::unique_ptr<CublasLtFfn>> signsplit_create_cublaslt(
    const Weights& weights, index_t batch, int device, double rotation_bytes) {
  if (weights.gated() || weights.activation().kind != ActivationKind::relu) {
    return unsupported("cublaslt: relu without a gate only, since that is what its epilogues know");
  }
  switch (weights.dtype()) {
    case DType::f32: return CublasLt<float>::create(weights, batch, device, rotation_bytes);
    case DType::bf16: return CublasLt<__nv_bfloat16>::create(weights, batch, device, rotation_bytes);
    case DType::f16: return CublasLt<__half>::create(weights, batch, device, rotation_bytes);
    default: return unsupported("cublaslt: no baseline for " + std::string(to_string(weights.dtype())) + " weights");
  }
}

}  // namespace signsplit::baselines
