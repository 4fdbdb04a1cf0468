// NVIDIA's libraries as an unfused baseline: two matrix products, the best of what cublasLt's heuristics offer and of
// cublasGemmEx, in one CUDA graph. Never part of signsplit's libraries: a module that the command loads.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "signsplit/status.hpp"
#include "signsplit/weights.hpp"

namespace signsplit::baselines {

/// A layer on a device, copied so many times that all copies together fill a rotation; each call goes through all of them
/// in one graph launch.
class CublasLtFfn {
 public:
  virtual ~CublasLtFfn() = default;
  /// y [B, D] = FFN(x [B, D]), by the last copy. Returns the seconds of one call, by the device's clock.
  virtual Result<double> run(std::span<const float> x, std::span<float> y) = 0;
  [[nodiscard]] virtual std::size_t weight_bytes() const = 0;  ///< of one copy
  /// Library versions, arithmetic and what was chosen for each product.
  [[nodiscard]] virtual std::string description() const = 0;
};

/// relu without a gate; f32, bf16 and f16 weights. x and h have the weights' type (converted before the time is taken),
/// sums are f32. unsupported, with the reason, for others.
using CreateCublasLt = Result<std::unique_ptr<CublasLtFfn>>(const Weights& weights, index_t batch, int device,
                                                            double rotation_bytes);
inline constexpr const char* kCreateCublasLtName = "signsplit_create_cublaslt";

}  // namespace signsplit::baselines
