// Reading a Machine: between the points of its curves, and where it says nothing.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "signsplit/sim/predict.hpp"

namespace signsplit::sim {

/// Read bandwidth of all threads together, interpolated in the logarithms along the working set, linearly between thread
/// counts; beyond the curve its last value. The machine has at least one point.
[[nodiscard]] double bandwidth(const Machine& machine, int threads, double working_set_bytes);
/// Of the caches up to the second from outside, which some threads share with no neighbour.
[[nodiscard]] double own_caches_bytes(const Machine& machine, int threads);
/// The main-memory end of the curve.
[[nodiscard]] double dram_bandwidth(const Machine& machine, int threads);

/// A cost at a number of threads, linear in log2(threads) between entries and beyond the last two. Not negative.
[[nodiscard]] double thread_cost(const std::vector<ThreadCost>& costs, int threads);

/// Numbers of tokens at which a CPU's kernels of product 1 and 2 have a rate: "up_f32" of one, "up_f32_2" of two, ...
inline constexpr int kRatedBatches[] = {1, 2, 4, 8};
/// The number of tokens in the name of a rate; 1 where it names none.
[[nodiscard]] int tokens_of_rate(std::string_view name);

/// A kernel's rate. Where the profile has none it is derived from fma_f32 of the same instruction set and `assumed`;
/// empty when it has no fma_f32 either.
[[nodiscard]] std::optional<Quantity> kernel_rate(const Machine& machine, std::string_view isa, std::string_view name);

/// A correction of the cost model, or what is assumed in its place. `name` is one of model_fields.hpp.
[[nodiscard]] Quantity model_value(const Machine& machine, std::string_view name);

/// Half width of the 90 % interval over the value: as given, else by kind.
[[nodiscard]] double relative_ci90(const Quantity& quantity);

/// Relative half widths (90 %) of each term of a prediction, as the profile's numbers are uncertain.
[[nodiscard]] Terms term_uncertainty(const Machine& machine);

/// Half width (90 %) of a prediction; and of the difference of two, where what both share cancels.
[[nodiscard]] double prediction_uncertainty_s(const Terms& terms, const Machine& machine, Residency residency);
[[nodiscard]] double gap_uncertainty_s(const Prediction& a, const Prediction& b, const Machine& machine);
/// The part of it that comes from the terms; what the equations leave out is the rest.
[[nodiscard]] double gap_uncertainty_of_terms_s(const Terms& a, const Terms& b, const Machine& machine);

}  // namespace signsplit::sim
