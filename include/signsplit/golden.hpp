// Golden data: a layer, inputs, and what the FFN of them is, exactly; and the check of somebody else's outputs against it.
#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "signsplit/problem.hpp"
#include "signsplit/status.hpp"
#include "signsplit/weights.hpp"

namespace signsplit {

/// Kinds of weights and inputs (docs/golden.md says what each one finds).
enum class DataSet : std::uint8_t {
  random,        ///< independent Gaussian values, all biases
  exact,         ///< small integers: every order of summation is exact, every correct kernel gives the same bits
  cancellation,  ///< weights and inputs in pairs that nearly cancel: |z| far below Σ|x||w|
  outliers,      ///< a few channels of x, and a few units, a thousand times as large as the others
  scales,        ///< units and tokens that differ by powers of two up to 2^±20
  subnormals,    ///< products and outputs below 2^-126: a kernel that flushes to zero shows
  nonfinite,     ///< NaN and ∞ in some tokens, a row of W2 and a bias
  given,         ///< weights or inputs of the caller's
};

/// The arithmetic that the bounds are for. In any order, with any tree or split, fused multiply-adds or not.
enum class Accumulation : std::uint8_t {
  f32,               ///< every product and sum in f32
  f64,               ///< sums in f64; z, h and y may be rounded to f32
  bf16_activations,  ///< x and h rounded to bf16 (nearest) before they are multiplied, sums in f32
};

[[nodiscard]] std::string_view to_string(DataSet) noexcept;
[[nodiscard]] std::string_view to_string(Accumulation) noexcept;       ///< "f32", "f64", "bf16-activations"
[[nodiscard]] std::optional<DataSet> parse_data_set(std::string_view) noexcept;
[[nodiscard]] std::optional<Accumulation> parse_accumulation(std::string_view) noexcept;

/// A layer and its input [batch, D].
struct GoldenInput {
  Weights weights;
  std::vector<float> x;
  index_t batch = 1;
};

/// Makes the layer and the input of a set; the seed alone decides every value. `active` is the fraction of open units to
/// aim at (0 < active ≤ 1; activations that close no unit: 1); only random, outliers and nonfinite keep to it. `given` is invalid_argument.
[[nodiscard]] Result<GoldenInput> golden_input(const Problem& problem, DataSet set, double active, std::uint64_t seed);

/// Where the data came from; written with it.
struct GoldenSource {
  DataSet set = DataSet::given;
  std::optional<std::uint64_t> seed;
};

struct Golden {
  GoldenInput input;
  GoldenSource source;
  Accumulation accumulation = Accumulation::f32;
  std::string version;              ///< of the library that computed it
  std::vector<float> y;             ///< [B, D] the real-number value of the FFN, rounded once (ReferenceMode::composite; gelu and the like: as y_staged)
  std::vector<float> y_staged;      ///< [B, D] z, h and y each correctly rounded (ReferenceMode::staged)
  std::vector<float> z;             ///< [B, F] pre-activations (of a gated FFN the gate's), rounded once
  std::vector<float> h;             ///< [B, F] hidden activations, rounded once
  std::vector<std::uint8_t> active; ///< [B, F] 1 where the unit is open
  /// |ŷ − y| ≤ y_bound for every correct kernel of this accumulation; likewise z and h. The rounding of y, z and h is in
  /// it, and it is rounded up. 0 where every order of summation is exact; +∞ where a value is not finite or may overflow.
  std::vector<float> y_bound;               ///< [B, D]
  std::vector<float> z_bound, h_bound;      ///< [B, F]
};

/// Computes the exact outputs and their bounds. threads 0 means all.
[[nodiscard]] Result<Golden> make_golden(GoldenInput input, const GoldenSource& source, Accumulation accumulation,
                                         int threads = 0);

/// Writes one safetensors file when the name ends in .safetensors, else a folder: golden.safetensors, and every tensor as
/// f32 .npy (x.npy, up.weight.npy, y.npy, ...). Tensors: those of a weights file; x, y, y_staged, y_bound [B, D]; z, h,
/// z_bound, h_bound [B, F], all F32; active [B, F], U8. Each file is whole or not there; golden.safetensors comes last.
/// Returns the files written.
[[nodiscard]] Result<std::vector<std::filesystem::path>> write_golden(const std::filesystem::path& path,
                                                                      const Golden& golden);
/// Reads either form. Errors name file, tensor and rule.
[[nodiscard]] Result<Golden> read_golden(const std::filesystem::path& path);

/// What a hint says went wrong.
enum class Cause : std::uint8_t {
  none,                ///< nothing is wrong
  unknown,             ///< wrong, and like none of the faults below
  not_written,         ///< all outputs are zero, or all NaN
  output_tail,         ///< the last columns, or the last tokens, are not what they should be, all others are
  tokens_permuted,     ///< tokens have each other's results
  columns_shifted,     ///< y[d] holds y[d ± n]
  output_transposed,   ///< written as [D, B]
  scaled,              ///< all outputs are c times what they should be; c = −1 is a sign
  missing_up_bias,
  missing_gate_bias,
  missing_down_bias,
  repeated_bias,       ///< a bias added twice, or once per token or part
  wrong_sign,          ///< of a matrix, a bias or x
  dropped_k_tail,      ///< the last elements of x, or the first, are left out of product 1
  dropped_hidden_tail, ///< the last hidden units, or the first, are left out of product 2
  up_transposed,       ///< the buffer of W1 (and Wg) read as [D, F]
  down_transposed,     ///< the buffer of W2 read as [F, D]
  gate_up_swapped,
  wrong_activation,    ///< another activation, or none
  shifted_input,       ///< x[k ± 1] multiplied with w[k]
  shifted_hidden,      ///< h[j ± 1] multiplied with column j of W2
  unrepaired_tiles,    ///< the activation applied to each K tile's own sum
  rounded_operands,    ///< x, h or weights rounded to bf16 or tf32
  rounded_output,      ///< right, but rounded to bf16 when stored
  low_precision_sums,  ///< sums kept in bf16, or errors of that size
  flushed_subnormals,
};
[[nodiscard]] std::string_view to_string(Cause) noexcept;

struct Hint {
  Cause cause = Cause::none;
  std::string text;     ///< one sentence; empty when there is nothing to say
  bool proven = false;  ///< recomputing with this fault gives the output, within its own bound; else it is a guess
};

/// Buckets of the distribution: [0] exact, [i] ulps in [2^(i−1), 2^i), the last one NaN against a number.
inline constexpr std::size_t kUlpBuckets = 34;

struct CheckReport {
  bool passed = false;        ///< all within the bound, and NaN and ∞ where they belong
  bool within_bound = false;  ///< no finite value outside its bound
  std::uint64_t max_ulp = 0;         ///< against y; the largest std::uint64_t for a NaN against a number
  std::uint64_t max_ulp_staged = 0;  ///< against y_staged
  index_t worst_index = 0;    ///< into [B, D]: the element that breaks its bound most, or of all that keep it comes closest
  double worst_ratio = 0.0;   ///< |error| / bound there; +∞ for an error where none is allowed
  index_t elements = 0, exact = 0;               ///< exact: no ulp off y
  index_t outside = 0;                           ///< finite values outside their bounds
  index_t nan_mismatches = 0, inf_mismatches = 0;
  index_t unbounded = 0;                         ///< finite y whose computation may overflow: anything passes
  std::array<std::uint64_t, kUlpBuckets> distribution{};
  std::string where;          ///< the pattern of the wrong elements in words; empty when there are none
  Hint hint;
};

struct CheckOptions {
  DType output_dtype = DType::f32;  ///< bf16: the outputs were rounded to bf16 when they were stored, and that is allowed
  bool hint = true;                 ///< look for the cause; costs about as much as a hundred plain evaluations
  int threads = 0;
};

/// Compares y [B, D] of any kernel with golden data. invalid_argument when it has another size.
[[nodiscard]] Result<CheckReport> check(const Golden& golden, std::span<const float> y, const CheckOptions& options = {});

}  // namespace signsplit
