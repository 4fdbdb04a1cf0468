// What the headers shared between host and device code need from the compiler.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define SIGNSPLIT_HD __host__ __device__
#else
#define SIGNSPLIT_HD
#endif

namespace signsplit {

/// Indices and extents. Signed, 64 bits: F·D of a large layer overflows an int.
using index_t = std::int64_t;

/// The smallest multiple of `step` that is not below `n`. n ≥ 0, step > 0.
SIGNSPLIT_HD constexpr index_t round_up(index_t n, index_t step) { return (n + step - 1) / step * step; }

/// ⌈n / step⌉. n ≥ 0, step > 0.
SIGNSPLIT_HD constexpr index_t ceil_div(index_t n, index_t step) { return (n + step - 1) / step; }

}  // namespace signsplit
