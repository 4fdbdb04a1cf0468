// The vendor baseline: an unfused FFN made of oneDNN matmul primitives, the way an inference engine on CPUs runs it.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "signsplit/status.hpp"
#include "signsplit/weights.hpp"

namespace signsplit::baselines {

/// The types that oneDNN multiplies. Sums are f32 in all of them but int8, where they are int32.
enum class OneDnnArithmetic : std::uint8_t {
  f32,      ///< f32 weights, f32 x and h
  bf16,     ///< bf16 weights; x and h are rounded to bf16 too, because oneDNN multiplies equal types only
  f16,      ///< f16 weights; x and h are rounded to f16 (which ends at 65504). Version 2 has no such kernel for CPUs
  int8,     ///< int8 weights; x and h are quantized per token. Version 2 has no kernel for int8 weights and f32 activations
  widened,  ///< weights stored as f32 (two or four times the bytes): no kernel of their type, or x and h are to stay f32
};
[[nodiscard]] std::string_view to_string(OneDnnArithmetic arithmetic) noexcept;

enum class OneDnnActivations : std::uint8_t { as_weights, kept_f32 };

/// "3.7.2": of the library that is loaded, which need not be the one compiled against.
[[nodiscard]] std::string onednn_version();

/// Two matmul primitives, the activation a post-op of the first; gated FFNs have a third, whose post-ops multiply by it.
/// create() reorders the weights into the layout that oneDNN prefers, in memory of its own (huge pages as for Weights),
/// so that run() times nothing but the FFN: rounding x to bf16 where needed, and the primitives.
///
/// f32 layers run in `f32`. bf16 layers try `bf16`, then `widened`, f16 layers likewise; arithmetic() tells which one it is.
/// int8 layers with one scale per row run as w8a8 does, each product a plain integer matmul: the passes over z, h and y
/// that scale, activate and quantize are ours and small. Results are within rounding of ours, not bit-identical.
class OneDnnFfn {
 public:
  /// `weights` are copied, not borrowed. threads 0: as many as OpenMP would use (a oneDNN built on another threading
  /// runtime than OpenMP chooses for itself). unsupported, with the reason: fatrelu with a threshold above zero (oneDNN
  /// has no such post-op), or what oneDNN refuses; io_error when there is not enough memory.
  ///
  /// `activations`: whether x and h may be rounded to the type of the weights, as engines do. With kept, weights of other
  /// types than f32 are widened, and y is within the bound of an f32 FFN summed in any order (not our bits).
  [[nodiscard]] static Result<OneDnnFfn> create(const Weights& weights, index_t batch = 1, int threads = 0,
                                                OneDnnActivations activations = OneDnnActivations::as_weights);
  OneDnnFfn(OneDnnFfn&&) noexcept;
  OneDnnFfn& operator=(OneDnnFfn&&) noexcept;
  ~OneDnnFfn();

  /// y [B, D] = FFN(x [B, D]); x and y do not overlap.
  Status run(std::span<const float> x, std::span<float> y);

  [[nodiscard]] OneDnnArithmetic arithmetic() const noexcept;
  /// Bytes of the reordered weights: what one run reads.
  [[nodiscard]] std::size_t weight_bytes() const noexcept;
  /// "oneDNN 2.6.3, bf16, brgemm:avx512_core_bf16 + brgemm:avx512_core_bf16".
  [[nodiscard]] std::string description() const;

  struct State;  // of the implementation

 private:
  explicit OneDnnFfn(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

}  // namespace signsplit::baselines
