// The vendor baseline: an unfused FFN made of oneDNN matmul primitives, the way an inference engine on CPUs runs it.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "signsplit/status.hpp"
#include "signsplit/weights.hpp"

namespace signsplit::baselines {

/// The types that oneDNN multiplies. Sums are f32 in all of them.
enum class OneDnnArithmetic : std::uint8_t {
  f32,      ///< f32 weights, f32 x and h
  bf16,     ///< bf16 weights; x and h are rounded to bf16 too, because oneDNN multiplies equal types only
  widened,  ///< bf16 weights stored as f32 (twice the bytes), where oneDNN has no bf16 kernel for the processor
};
[[nodiscard]] std::string_view to_string(OneDnnArithmetic arithmetic) noexcept;

/// "3.7.2": of the library that is loaded, which need not be the one compiled against.
[[nodiscard]] std::string onednn_version();

/// Two matmul primitives, the activation a post-op of the first; gated FFNs have a third, whose post-ops multiply by it.
/// create() reorders the weights into the layout that oneDNN prefers, in memory of its own (huge pages as for Weights),
/// so that run() times nothing but the FFN: rounding x to bf16 where needed, and the primitives.
///
/// f32 layers run in `f32`. bf16 layers try `bf16`, then `widened`; arithmetic() tells which one it is.
class OneDnnFfn {
 public:
  /// `weights` are copied, not borrowed. threads 0: as many as OpenMP would use (a oneDNN built on another threading
  /// runtime than OpenMP chooses for itself). unsupported, with the reason: fatrelu with a threshold above zero (oneDNN
  /// has no such post-op), or what oneDNN refuses; io_error when there is not enough memory.
  [[nodiscard]] static Result<OneDnnFfn> create(const Weights& weights, index_t batch = 1, int threads = 0);
  OneDnnFfn(OneDnnFfn&&) noexcept;
  OneDnnFfn& operator=(OneDnnFfn&&) noexcept;
  ~OneDnnFfn();

  /// y [B, D] = FFN(x [B, D]); x and y do not overlap.
  Status run(std::span<const float> x, std::span<float> y);

  [[nodiscard]] OneDnnArithmetic arithmetic() const noexcept;
  /// Bytes of the reordered weights: what one run reads.
  [[nodiscard]] std::size_t weight_bytes() const noexcept;
  /// "oneDNN 2.6.3, bf16, brgemm:avx512_core_bf16 + brgemm:avx512_core_bf16".
  [[nodiscard]] const std::string& description() const noexcept;

 private:
  struct State;
  explicit OneDnnFfn(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

}  // namespace signsplit::baselines
