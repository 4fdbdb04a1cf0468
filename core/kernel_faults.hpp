// What a wrong output looks like: faults that kernels have, recomputed and compared.
#pragma once

#include <span>

#include "signsplit/golden.hpp"

namespace signsplit {

/// |ŷ − y| allowed for element i beyond nothing: the bound, and the rounding of the stored type.
[[nodiscard]] double allowed_error(const Golden& golden, std::size_t i, DType output);

/// The cause that explains the outputs y [B, D], of which those marked in `wrong` [B, D] are wrong. May throw
/// std::bad_alloc.
[[nodiscard]] Hint find_cause(const Golden& golden, std::span<const float> y, std::span<const std::uint8_t> wrong,
                              index_t worst, const CheckOptions& options);

}  // namespace signsplit
