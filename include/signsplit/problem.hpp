// Problem: the shape and the arithmetic of one FFN call.
#pragma once

#include <optional>
#include <string>
#include <string_view>

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

/// "f32", "w8a8".
[[nodiscard]] std::string_view to_string(Arithmetic arithmetic) noexcept;
/// Parses the names of to_string; nullopt for any other text.
[[nodiscard]] std::optional<Arithmetic> parse_arithmetic(std::string_view text) noexcept;

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

/// Products of w8a8 that one int32 can hold: n·127·127 ≤ 2^31 − 1.
inline constexpr index_t kMaxIntegerSum = 0x7fffffff / (127 * 127);

/// Ok, or invalid_argument that names the field and the rule: extents in [1, kMaxExtent]; drelu only gated; fatrelu's
/// threshold finite and not negative; group only with int8, a multiple of 64; w8a8 only with int8, and groups (the
/// whole of D and F for group 0) of at most kMaxIntegerSum.
[[nodiscard]] Status validate(const Problem& problem);

/// Matrices read per step: 2, or 3 when gated.
constexpr index_t matrix_count(const Problem& problem) { return problem.gated ? 3 : 2; }

/// Scales that the elements [begin, end) of a stored row of an int8 matrix have, end > begin; 0 for the other types. Of up
/// and gate a row lies along D (padded: the padding shares the last scale), of down along F.
SIGNSPLIT_HD constexpr index_t scale_count(const Problem& problem, index_t begin, index_t end) {
  if (problem.dtype != DType::int8) return 0;
  return problem.group == 0 ? 1 : (end - 1) / problem.group - begin / problem.group + 1;
}

/// Bytes of a scale: a bfloat16.
inline constexpr index_t kScaleBytes = 2;

/// Of the scales of down as packed, [groups, padded D].
SIGNSPLIT_HD constexpr index_t down_scale_bytes(const Problem& problem) {
  return scale_count(problem, 0, problem.d_ff) * round_up(problem.d_model, 64) * kScaleBytes;
}

/// Weight bytes of one layer as packed (rows padded to whole 64-element blocks), scales included.
[[nodiscard]] index_t weight_bytes(const Problem& problem) noexcept;

/// One line for people: "2048x8192 bf16 relu, batch 1", "4096x11008 int8/128 w8a8 reglu, batch 4".
[[nodiscard]] std::string describe(const Problem& problem);

}  // namespace signsplit
