// Synthetic layers and inputs with a chosen fraction of active units.
#pragma once

#include <vector>

#include "signsplit/status.hpp"
#include "signsplit/weights.hpp"

namespace signsplit {

/// Counter-based random numbers: value i of a seed, whatever was drawn before (SplitMix64 finaliser).
[[nodiscard]] std::uint64_t random_bits(std::uint64_t seed, std::uint64_t index) noexcept;
/// Standard normal value i of a seed, by inversion (Wichura, AS 241).
[[nodiscard]] double random_normal(std::uint64_t seed, std::uint64_t index) noexcept;
/// The normal quantile function, 0 < p < 1.
[[nodiscard]] double normal_quantile(double p) noexcept;

/// A layer with independent Gaussian weights, W1 and Wg of variance 1/D, W2 of variance 1/F, and a bias on the up (gated:
/// gate) projection that leaves the fraction `active` of the units open for inputs of synthetic_input. 0 < active ≤ 1;
/// exactly 1 opens all of them. An activation that closes no unit (identity, gelu, ...) takes 1 only, and has no bias. int8: the f16 layer of the same seed, rounded by quantize(problem.group).
[[nodiscard]] Result<Weights> synthetic_weights(const Problem& problem, double active, std::uint64_t seed, int threads = 0);

/// [batch, D] independent standard normal values.
[[nodiscard]] std::vector<float> synthetic_input(index_t batch, index_t d_model, std::uint64_t seed);

}  // namespace signsplit
