// Problem: the shape and the arithmetic of one FFN call.
#pragma once

#include <string>

#include "signsplit/activation.hpp"
#include "signsplit/dtype.hpp"
#include "signsplit/portability.hpp"
#include "signsplit/status.hpp"

namespace signsplit {

/// How the products are computed.
enum class Arithmetic : std::uint8_t {
  f32,   ///< f32 FMAs on the exact f32 values of the weights
  w8a8,  ///< int8 weights; x and h quantized per token, int32 sums inside
};

/// y = W2·act(W1·x + b1) + b2, or gated y = W2·(act(Wg·x + bg) ⊙ (W1·x + b1)) + b2.
struct Problem {
  index_t d_model = 0;  ///< D, elements of x and y of one token
  index_t d_ff = 0;     ///< F, hidden units
  index_t batch = 1;    ///< B, tokens computed together
  DType dtype = DType::bf16;
  Activation activation = {};
  bool gated = false;
  index_t group = 0;  ///< int8: elements of the reduction index that share a scale, a multiple of 64; 0: one scale per output row
  Arithmetic arithmetic = Arithmetic::f32;

  friend constexpr bool operator==(const Problem&, const Problem&) = default;
};

/// Largest D, F and B accepted: far above any model, far below what could overflow F·D·4 in 64 bits.
inline constexpr index_t kMaxExtent = index_t{1} << 24;

/// Ok, or invalid_argument that names the field and the rule: extents in [1, kMaxExtent]; drelu only gated; fatrelu's
/// threshold finite and not negative; group only with int8, a multiple of 64; w8a8 only with int8.
[[nodiscard]] Status validate(const Problem& problem);

/// Matrices read per step: 2, or 3 when gated.
constexpr index_t matrix_count(const Problem& problem) { return problem.gated ? 3 : 2; }

/// Weight bytes of one layer as packed (rows padded to whole 64-element blocks).
[[nodiscard]] index_t weight_bytes(const Problem& problem) noexcept;

/// One line for people: "2048x8192 bf16 relu, batch 1".
[[nodiscard]] std::string describe(const Problem& problem);

}  // namespace signsplit
