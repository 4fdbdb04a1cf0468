// A second vendor baseline: f32 products by OpenBLAS, the way plain BLAS users run an FFN.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "signsplit/status.hpp"
#include "signsplit/weights.hpp"

namespace signsplit::baselines {

/// True when libopenblas can be loaded. It is looked for at run time, so that a build needs no OpenBLAS.
[[nodiscard]] bool has_openblas();

/// cblas_sgemv for one token, cblas_sgemm for several, with OpenBLAS's own threads; bias, activation and gate are plain
/// loops over z and h between the products. f32 layers only. Weights are row-major copies, W2 as frameworks store it.
///
/// OpenBLAS's idle threads spin; loaded by us they are told to give up at once (OPENBLAS_THREAD_TIMEOUT, unless it is set),
/// since in an interleaved comparison they would take cores from the others.
class OpenBlasFfn {
 public:
  /// unsupported when OpenBLAS cannot be loaded, or the layer is not f32. threads 0: as OpenBLAS chooses.
  [[nodiscard]] static Result<OpenBlasFfn> create(const Weights& weights, index_t batch = 1, int threads = 0);
  OpenBlasFfn(OpenBlasFfn&&) noexcept;
  OpenBlasFfn& operator=(OpenBlasFfn&&) noexcept;
  ~OpenBlasFfn();

  /// y [B, D] = FFN(x [B, D]); x and y do not overlap.
  Status run(std::span<const float> x, std::span<float> y);

  /// Bytes of the copies: what one run reads.
  [[nodiscard]] std::size_t weight_bytes() const noexcept;
  /// "OpenBLAS 0.3.21 ..., sgemv".
  [[nodiscard]] std::string description() const;

 private:
  struct State;
  explicit OpenBlasFfn(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

}  // namespace signsplit::baselines
