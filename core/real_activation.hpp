// The real gelu, gelu_tanh and silu, from the library's long double functions: what the polynomials of smooth_activation.hpp are held to.
#pragma once

#include "signsplit/activation.hpp"

namespace signsplit {

/// The function of z, off by at most real_activation_error(z), relative, where long double has 64 bits or more. kind must be a smooth one.
/// The limits at the infinities (−0 at −∞); NaN for NaN.
[[nodiscard]] long double real_activation(ActivationKind kind, long double z) noexcept;

/// A few ulps of long double; and in the tail those of the exponent, or of the argument of erfc, times the exponent, which is below 2z².
[[nodiscard]] long double real_activation_error(long double z) noexcept;

/// Below this silu is rounded from its power series: six arguments (2^-23, -2^-24, ±3·2^-22, ±5·2^-21) are too close to a midpoint of two f32 for long double.
inline constexpr float kSmallSilu = 0x1p-18f;

/// The function of an f32 value, correctly rounded to f32: no other argument is so close to a midpoint that real_activation_error()
/// leaves open which f32 is nearer (tests/core/smooth_activation_test.cpp goes through all of them). NaN for NaN.
[[nodiscard]] float rounded_activation(ActivationKind kind, float z) noexcept;

}  // namespace signsplit
