// gelu, gelu_tanh and silu against the library's long double functions: here for every 8191st f32 and the special ones. All of them, in some minutes:
//   SIGNSPLIT_EVERY_FLOAT=1 ctest --preset release -R '^activation$' -V
#include "signsplit/smooth_activation.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "real_activation.hpp"
#include "seed.hpp"

using namespace signsplit;

namespace {

constexpr double kBound = 0.5 + 0x1p-19;  // ulps
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Comparison {
  double worst = 0.0;            ///< ulps from the real number
  float worst_at = 0.0f;
  std::uint64_t compared = 0, otherwise_rounded = 0;  ///< ... than correctly
  std::uint64_t undecided = 0;   ///< the reference is too near to a midpoint of two f32
  std::uint64_t wrong = 0;       ///< where the answer is known without it
};

/// The real number is between 2^-150 and 2^9.
void compare(ActivationKind kind, float z, Comparison& result) {
  const long double real = real_activation(kind, static_cast<long double>(z)), margin = real_activation_error(static_cast<long double>(z));
  const float h = smooth_activation(kind, z);
  int exponent = 0;
  static_cast<void>(std::frexp(real, &exponent));
  const double ulp = std::ldexp(1.0, std::max(exponent - 24, -149));
  const double ulps = static_cast<double>(std::fabs(static_cast<long double>(h) - real) / static_cast<long double>(ulp));
  if (!(ulps <= result.worst)) {
    result.worst = ulps;
    result.worst_at = z;
  }
  const bool by_series = kind == ActivationKind::silu && std::fabs(z) < kSmallSilu;
  result.undecided += !by_series && static_cast<float>(real * (1.0L + margin)) != static_cast<float>(real * (1.0L - margin)) ? 1 : 0;
  result.otherwise_rounded += h != rounded_activation(kind, z) ? 1 : 0;
  ++result.compared;
}

/// Small arguments: the real number is z/2 and less than 2^-7 ulp more; of a subnormal half, up to a midpoint. Large ones: z, or −0.
bool is_right_at_the_ends(float z, float h) {
  if (std::fabs(z) < 1.0f) return std::fabs(static_cast<double>(h) - 0.5 * static_cast<double>(z)) <= (std::fabs(z) < 0x1p-125f ? 0x1p-150 : 0.0);
  return h == (z > 0.0f ? z : 0.0f);
}

Comparison compare_all(ActivationKind kind, std::uint64_t step) {
  Comparison result;
  for (std::uint64_t i = test::seed() % step; i <= 0xffffffffu; i += step) {
    const float z = std::bit_cast<float>(static_cast<std::uint32_t>(i));
    if (std::isnan(z)) {
      result.wrong += std::isnan(smooth_activation(kind, z)) ? 0 : 1;
      continue;
    }
    const float h = smooth_activation(kind, z);
    result.wrong += std::signbit(h) != std::signbit(z) ? 1 : 0;
    if (std::fabs(z) >= 0x1p-30f && std::fabs(z) < 256.0f) {
      compare(kind, z, result);
    } else {
      result.wrong += is_right_at_the_ends(z, h) ? 0 : 1;
    }
  }
  return result;
}

}  // namespace

TEST_CASE("gelu, gelu_tanh and silu are within 0.5 + 2^-19 ulp of the real numbers, and their reference knows how to round") {
  const bool every = std::getenv("SIGNSPLIT_EVERY_FLOAT") != nullptr;
  for (const ActivationKind kind : {ActivationKind::gelu, ActivationKind::gelu_tanh, ActivationKind::silu}) {
    const Comparison result = compare_all(kind, every ? 1 : 8191);
    CAPTURE(to_string({kind}));
    MESSAGE(to_string({kind}), ": ", result.compared, " arguments, ", result.otherwise_rounded, " not correctly rounded, furthest off 0.5 ulp + ",
            result.worst - 0.5, " ulp at ", result.worst_at);
    CHECK(result.compared > (every ? 600'000'000u : 75'000u));
    CHECK(result.worst <= kBound);
    CHECK(result.undecided == 0);
    CHECK(result.wrong == 0);
  }
}

TEST_CASE("where z/2 + z²/4 is a midpoint, silu is a little below it") {
  for (const float z : {0x1p-23f, -0x1p-24f, 0x1.8p-21f, -0x1.8p-21f, 0x1.4p-19f, -0x1.4p-19f}) {
    const double middle = 0.5 * static_cast<double>(z) + 0.25 * static_cast<double>(z) * static_cast<double>(z);
    const float below = static_cast<float>(std::nextafter(middle, -1.0)), above = static_cast<float>(std::nextafter(middle, 1.0));
    CHECK(below < above);
    CHECK(rounded_activation(ActivationKind::silu, z) == below);
  }
}

TEST_CASE("the ends of gelu, gelu_tanh and silu") {
  constexpr float kLargest = std::numeric_limits<float>::max(), kLeast = std::numeric_limits<float>::denorm_min();
  const auto same = [](float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); };
  for (const ActivationKind kind : {ActivationKind::gelu, ActivationKind::gelu_tanh, ActivationKind::silu}) {
    CAPTURE(to_string({kind}));
    using Function = float (*)(ActivationKind, float);
    for (const Function f : {Function{smooth_activation}, Function{rounded_activation}}) {
      CHECK(same(f(kind, 0.0f), 0.0f));
      CHECK(same(f(kind, -0.0f), -0.0f));
      CHECK(f(kind, kInfinity) == kInfinity);
      CHECK(same(f(kind, -kInfinity), -0.0f));
      CHECK(same(f(kind, -kLargest), -0.0f));
      CHECK(f(kind, kLargest) == kLargest);
      CHECK(std::isnan(f(kind, std::numeric_limits<float>::quiet_NaN())));
      CHECK(f(kind, 3.0f * 0x1p-140f) == 1.5f * 0x1p-140f);
      CHECK(same(f(kind, -kLeast), -0.0f));
    }
    // z/2 is a midpoint, the real number just above it.
    CHECK(rounded_activation(kind, kLeast) == kLeast);
    CHECK(rounded_activation(kind, -3.0f * kLeast) == -kLeast);
    CHECK(is_open({kind}, -5.0f));
    CHECK_FALSE(closes_units({kind}));
    CHECK(activate({kind}, 1.5f) == smooth_activation(kind, 1.5f));
    CHECK(activate_gated({kind}, -2.0f, 3.0f, false) == smooth_activation(kind, -2.0f) * 3.0f);
    CHECK(std::isnan(activate_gated({kind}, -kInfinity, kInfinity, false)));
  }
  // Values from tables: Φ(−10) = 7.619853024160526e-24 (Abramowitz and Stegun, 26.2), tanh and the logistic function by hand.
  CHECK(smooth_activation(ActivationKind::gelu, -10.0f) == -7.619853024160526e-23f);
  CHECK(smooth_activation(ActivationKind::gelu, 1.0f) == 0.8413447460685429f);
  CHECK(smooth_activation(ActivationKind::gelu_tanh, 1.0f) == 0.8411919906082768f);
  CHECK(smooth_activation(ActivationKind::silu, 1.0f) == 0.7310585786300049f);
}
