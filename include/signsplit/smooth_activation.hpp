// gelu, gelu_tanh and silu, with the same bits everywhere: on every instruction set, in scalar code and in vectors, on a GPU.
//
// An f32 argument is widened to f64; there polynomials and a quotient are evaluated by fused multiply-adds in a fixed order, and the result is
// rounded to f32 once. No library function, no table, no branch: a selection takes one of two values that are both computed. Every step is
// one operation of IEEE 754, or of integers.
//
// The f64 value is off by less than 2^-43, relative, so that the f32 result is within 0.5 + 2^-19 ulp of the real number. docs/exactness.md,
// section 4.2, has the derivation, tests/core/smooth_activation_test.cpp the comparison for every f32.
//
// All three have the sign of their argument: ±0 gives ±0, −∞ gives −0, +∞ gives +∞. NaN gives NaN.
#pragma once

#include "signsplit/portability.hpp"

/// Host and device, inlined by force: kernel objects leave no copy behind that was compiled for their instruction set.
#define SIGNSPLIT_HD_INLINED SIGNSPLIT_HD __attribute__((always_inline)) inline

namespace signsplit {
namespace smooth {

/// a·b + c, rounded once.
SIGNSPLIT_HD_INLINED double fused(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
  return __fma_rn(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}

/// condition ? a : b, as a choice of bits: of a conditional expression GCC makes a jump, and of a loop with a jump no vectors.
SIGNSPLIT_HD_INLINED double select(bool condition, double a, double b) {
  const std::uint64_t mask = condition ? ~std::uint64_t{0} : std::uint64_t{0};
  return __builtin_bit_cast(double, (__builtin_bit_cast(std::uint64_t, a) & mask) | (__builtin_bit_cast(std::uint64_t, b) & ~mask));
}

/// c0 + c1·x + c2·x² + ..., by Horner's rule. (A loop over an array is another thing of which GCC makes no vectors.)
template <class... Higher>
SIGNSPLIT_HD_INLINED double polynomial(double x, double c0, Higher... higher) {
  if constexpr (sizeof...(higher) == 0) {
    return c0;
  } else {
    return fused(polynomial(x, higher...), x, c0);
  }
}

/// e^x for |x| ≤ 700, to 2^-45.9; NaN for NaN. x = k·ln 2 + r with |r| ≤ ln 2 / 2 (Cody and Waite: ln 2 in two parts); e^r by a polynomial of
/// degree 9, minimax in relative error on that interval (2^-46.08); 2^k by its exponent bits.
SIGNSPLIT_HD_INLINED double exponential(double x) {
  constexpr double kLog2e = 1.4426950408889634, kLn2 = 0.6931471805599453, kLn2Rest = 2.3190468138462996e-17;
  constexpr double kToInteger = 0x1.8p52;  // adding it leaves the nearest integer in the low bits
  const double shifted = fused(x, kLog2e, kToInteger), k = shifted - kToInteger;
  const double r = fused(k, -kLn2Rest, fused(k, -kLn2, x));
  const double power = polynomial(r, 1.0000000000000129, 0.9999999999998925, 0.4999999999945756, 0.16666666667828556,
                                  0.041666667032673056, 0.008333333002421282, 0.0013888802795705313, 0.00019841596754197245,
                                  2.4884025959588555e-05, 2.748208785259176e-06);
  const std::uint64_t exponent = (__builtin_bit_cast(std::uint64_t, shifted) + 1023u) << 52;
  return power * __builtin_bit_cast(double, exponent);
}

/// z / (1 + e^−t).
SIGNSPLIT_HD_INLINED float over_one_plus_exponential(double z, double t) {
  constexpr double kLargest = 400.0;  // e^-400 beside 1 is nothing
  return static_cast<float>(z / (1.0 + exponential(-select(t > kLargest, kLargest, t))));
}

}  // namespace smooth

/// z / (1 + e^−z).
SIGNSPLIT_HD_INLINED float silu(float z) {
  constexpr double kLeast = -200.0;  // from here on the result is −0
  const double wide = z, w = smooth::select(wide < kLeast, kLeast, wide);
  return smooth::over_one_plus_exponential(w, w);
}

/// z/2 · (1 + tanh(√(2/π)·(z + 0.044715·z³))), which is z / (1 + e^−2√(2/π)·(z + 0.044715·z³)).
SIGNSPLIT_HD_INLINED float gelu_tanh(float z) {
  constexpr double kLeast = -16.0;                                              // from here on the result is −0
  constexpr double kLinear = 1.5957691216057308, kCubic = 0.07135481627260025;  // 2√(2/π), and that times 0.044715
  const double wide = z, w = smooth::select(wide < kLeast, kLeast, wide);
  return smooth::over_one_plus_exponential(w, w * smooth::fused(kCubic, w * w, kLinear));
}

/// z·Φ(z) = z/2 · erfc(−z/√2). With a = |z| the tail is Φ(−a) = e^(−a²/2)·P(a)/Q(a), where the quotient, of degrees 7 and 8, is minimax in
/// relative error on [0, 14.6] (2^-45.99): so far down h keeps its relative accuracy, below that it is −0. a² is exact, being the square of an f32.
SIGNSPLIT_HD_INLINED float gelu(float z) {
  constexpr double kLargest = 15.0;  // the result is z from here on, and −0 from −15 down
  const double wide = z, w = smooth::select(wide < -kLargest, -kLargest, wide), size = smooth::select(w < 0.0, -w, w);
  const double a = smooth::select(size > kLargest, kLargest, size);
  const double over = smooth::polynomial(a, 0.4999999999999935, 0.6309545081570014, 0.3935600131531266, 0.15160873821482668,
                                         0.03849585783542618, 0.006425741051458942, 0.0006560260211597686, 3.206003882923492e-05);
  const double under = smooth::polynomial(a, 1.0, 2.059793577114802, 1.9305975199791352, 1.0796761619456712, 0.39597572979584367,
                                          0.0981390724095571, 0.01618731221281319, 0.001644413250608687, 8.03626011059234e-05);
  const double tail = smooth::exponential(-0.5 * (a * a)) * (over / under);
  return static_cast<float>(w * smooth::select(w < 0.0, tail, 1.0 - tail));
}

}  // namespace signsplit
