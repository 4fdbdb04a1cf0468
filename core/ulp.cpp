#include <bit>
#include <limits>

#include "signsplit/reference.hpp"

namespace signsplit {
namespace {

// The floats in order as consecutive integers; both zeros are 0.
std::int64_t rank(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto magnitude = static_cast<std::int64_t>(bits & 0x7fffffffu);
  return (bits >> 31) != 0 ? -magnitude : magnitude;
}

}  // namespace

std::uint64_t ulp_distance(float a, float b) noexcept {
  const bool a_is_nan = a != a, b_is_nan = b != b;
  if (a_is_nan || b_is_nan) return a_is_nan && b_is_nan ? 0 : std::numeric_limits<std::uint64_t>::max();
  const std::int64_t difference = rank(a) - rank(b);
  return static_cast<std::uint64_t>(difference < 0 ? -difference : difference);
}

}  // namespace signsplit
