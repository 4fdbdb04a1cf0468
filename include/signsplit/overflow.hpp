// Overflow: how wide an accumulator must be for the pre-activation z, and for its streams P and N kept apart.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "signsplit/status.hpp"
#include "signsplit/weights.hpp"

namespace signsplit {

/// Magnitudes that one sum over K reaches. P = Σ max(w·x, 0), N = Σ min(w·x, 0), z = P + N, all without bias.
struct SumRange {
  /// Largest magnitude that the weights permit when every |x_k| ≤ the bound: bound · max_j Σ_k |w_jk|. It is the same for
  /// P, N and z, because x may have the sign of the weights.
  double worst = 0.0;
  /// Largest magnitude on the given inputs, partial sums of ascending k included; empty without inputs.
  std::optional<double> observed;
};

/// One kind of accumulator against the streams and against z.
struct AccumulatorFit {
  std::string_view name;       ///< fp16, int16, int24, int32
  double limit = 0.0;          ///< largest magnitude that it holds (fp16 for integers: holds *exactly*, 2^11)
  bool fits_worst = false;     ///< nothing that the weights permit overflows: P, N and z alike
  bool fits_streams = false;   ///< P and N of the given inputs fit (true without inputs)
  bool fits_z = false;         ///< all partial sums of z of the given inputs fit (true without inputs)
  index_t k_tile_worst = 0;    ///< longest K tile, wherever it starts, in which no stream can overflow; D: no limit; 0: none
  index_t k_tile_observed = 0; ///< the same for the streams of the given inputs
};

/// One arithmetic of product 1.
struct OverflowView {
  double x_bound = 0.0;  ///< |x_k| assumed for `worst`
  SumRange p, n, z;
  std::vector<AccumulatorFit> accumulators;
};

struct OverflowReport {
  index_t tokens = 0;
  OverflowView real;   ///< w and x as they are; fp16 only
  OverflowView w8a8;   ///< w quantized to [−127, 127] per row, x per token, both symmetric, to nearest; integers
  /// Bits that cancel when z = P + N is formed: log2((P − N) / |z|), in eighths of a bit. Zero without inputs.
  double cancelled_bits_median = 0.0, cancelled_bits_p99 = 0.0;
  /// Fraction of (unit, token) pairs whose sign is lost if P and N are rounded once to fp16, to bf16:
  /// |z| ≤ u·(P − N), u = 2⁻¹¹, 2⁻⁸.
  double sign_in_doubt_fp16 = 0.0, sign_in_doubt_bf16 = 0.0;
};

/// Bits of a two's complement integer that holds −magnitude to magnitude.
[[nodiscard]] int accumulator_bits(double magnitude) noexcept;

/// Analyses the first product (of a gated FFN the gate's, which decides what is open). x is [tokens, D] and may be empty.
/// `x_bound` bounds |x_k| of the real view; 0: the largest of the given inputs. invalid_argument without both, for a size
/// that does not fit, and for weights, inputs or a bound that are not finite.
[[nodiscard]] Result<OverflowReport> analyse_overflow(const Weights& weights, std::span<const float> x, index_t tokens,
                                                      double x_bound = 0.0, int threads = 0);

}  // namespace signsplit
