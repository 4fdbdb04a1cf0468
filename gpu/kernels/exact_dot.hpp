// A dot product without rounding error, by one warp: for the few units whose sign f32 cannot settle. The fixed-point
// accumulator is that of ExactSum (signsplit/exact_sum.hpp), in shared memory, with every term split into three 32-bit
// digits, so that 2^31 terms need no carries in between and the lanes can add at once.
#pragma once

#include "products.hpp"

namespace signsplit::gpu {

inline constexpr int kExactLimbs = 70;       // limb i weighs 2^(32·i − 1088)
inline constexpr int kExactLowestBit = -1088;

/// A sum rounded once to f32, and the sign of the sum less a threshold.
struct ExactValue {
  float value;
  int sign;
};

SIGNSPLIT_DEVICE std::uint64_t bits_of(double value) {
#if defined(__CUDA_ARCH__)
  return static_cast<std::uint64_t>(__double_as_longlong(value));
#else
  return std::bit_cast<std::uint64_t>(value);
#endif
}
SIGNSPLIT_DEVICE double double_of(std::uint64_t bits) {
#if defined(__CUDA_ARCH__)
  return __longlong_as_double(static_cast<long long>(bits));
#else
  return std::bit_cast<double>(bits);
#endif
}
SIGNSPLIT_DEVICE int leading_zeros(std::uint64_t bits) {
#if defined(__CUDA_ARCH__)
  return __clzll(static_cast<long long>(bits));
#else
  return std::countl_zero(bits);
#endif
}

/// Adds a finite double to the limbs, exactly. Inside lanes(); kAlone: by one lane while no other adds.
template <bool kAlone, class Block>
SIGNSPLIT_DEVICE void add_exactly(Block& block, std::int64_t* limbs, double value) {
  const std::uint64_t bits = bits_of(value), exponent = bits >> 52 & 0x7ffu, normal = exponent != 0 ? 1u : 0u;
  const std::uint64_t mantissa = (bits & 0xfffffffffffffu) | normal << 52;
  const std::uint64_t position = exponent + (1u - normal) + 13u;  // 13 = 1088 − 1075
  const std::uint64_t shift = position & 31u;
  const std::uint64_t digits[3] = {mantissa << shift & 0xffffffffu, mantissa >> (32u - shift) & 0xffffffffu,
                                   shift == 0 ? 0u : mantissa >> (64u - shift)};
  SIGNSPLIT_UNROLL
  for (int i = 0; i < 3; ++i) {
    const auto digit = static_cast<std::int64_t>(digits[i]);
    const std::int64_t term = (bits >> 63) != 0 ? -digit : digit;
    std::int64_t* limb = limbs + static_cast<int>(position >> 5) + i;
    if constexpr (kAlone) {
      block.store(limb, block.load(limb) + term);
    } else {
      block.atomic_add(limb, term);
    }
  }
}

/// Brings all limbs but the last into [0, 2^32). Returns the sign of the sum. One lane.
template <class Block>
SIGNSPLIT_DEVICE int carry(Block& block, std::int64_t* limbs) {
  std::int64_t carried = 0;
  bool any = false;
  SIGNSPLIT_NO_UNROLL
  for (int i = 0; i < kExactLimbs; ++i) {
    const std::int64_t sum = block.load(limbs + i) + carried;
    const bool last = i + 1 == kExactLimbs;
    const std::int64_t digit = last ? sum : sum & 0xffffffff;
    carried = last ? 0 : sum >> 32;  // rounds down: the sign moves up to the last limb
    block.store(limbs + i, digit);
    any = any || digit != 0;
  }
  if (block.load(limbs + kExactLimbs - 1) < 0) return -1;
  return any ? 1 : 0;
}

/// The carried, non-negative sum rounded to nearest even. One lane.
template <class Block>
SIGNSPLIT_DEVICE float round_limbs(Block& block, const std::int64_t* limbs) {
  const auto digit = [&](int i) { return i < 0 ? std::uint64_t{0} : static_cast<std::uint64_t>(block.load(limbs + i)); };
  int top = kExactLimbs - 1;
  SIGNSPLIT_NO_UNROLL
  while (top > 0 && digit(top) == 0) --top;
  bool rest = false;
  SIGNSPLIT_NO_UNROLL
  for (int i = top - 3; i >= 0 && !rest; --i) rest = digit(i) != 0;
  const std::uint64_t upper = digit(top) << 32 | digit(top - 1), below = digit(top - 2);
  const int zeros = leading_zeros(upper);
  if (zeros >= 32) return 0.0f;  // digit(top) is 0: so is the sum
  const std::uint64_t mantissa = zeros == 0 ? upper : upper << zeros | below >> (32 - zeros);
  rest = rest || (below << zeros & 0xffffffffu) != 0;
  const int unit = 32 * top - 32 - zeros + kExactLowestBit;  // the weight of bit 0 of mantissa is 2^unit
  const int drop = -149 - unit > 40 ? -149 - unit : 40;      // 24 bits stay, fewer of a subnormal
  if (drop > 64) return 0.0f;
  std::uint64_t kept = drop == 64 ? 0 : mantissa >> drop;
  const std::uint64_t half = std::uint64_t{1} << (drop - 1);
  if ((mantissa & half) != 0 && (rest || (mantissa & (half - 1)) != 0 || (kept & 1u) != 0)) ++kept;
  const double weight = double_of(static_cast<std::uint64_t>(unit + drop + 1023) << 52);
  return static_cast<float>(static_cast<double>(kept) * weight);
}

/// row · x + bias. `limbs` is the warp's scratch, [kExactLimbs]. Lane 0 holds the result.
template <class Weight, class Block>
SIGNSPLIT_DEVICE typename Block::template PerLane<ExactValue> exact_dot(Block& block, std::int64_t* limbs,
                                                                       const typename Weight::Stored* row,
                                                                       const RowScales& scales, int unit, const float* x,
                                                                       int columns, const float* bias, float threshold) {
  block.lanes([&](int lane) {
    SIGNSPLIT_NO_UNROLL
    for (int i = lane; i < kExactLimbs; i += kWarpLanes) block.store(limbs + i, std::int64_t{0});
  });
  block.lanes([&](int lane) {
    SIGNSPLIT_NO_UNROLL
    for (int k = 2 * lane; k < columns; k += kAccumulators) {
      const auto w = scale_two<Weight>(block, load_two<Weight>(block, row + k), scales, unit, k);
      const auto xs = block.load(reinterpret_cast<const Pack<float, 2>*>(x + k));
      SIGNSPLIT_UNROLL
      for (int i = 0; i < 2; ++i) {
        add_exactly<false>(block, limbs, static_cast<double>(xs.v[i]) * static_cast<double>(w.v[i]));  // exact: 24 + 24 bits
      }
    }
    if (lane == 0 && bias != nullptr) add_exactly<false>(block, limbs, static_cast<double>(block.load(bias + unit)));
  });
  typename Block::template PerLane<ExactValue> result;
  block.lanes([&](int lane) {
    result[lane] = {0.0f, 0};
    if (lane != 0) return;
    const int sign = carry(block, limbs);
    const auto negate = [&] {
      SIGNSPLIT_NO_UNROLL
      for (int i = 0; i < kExactLimbs; ++i) block.store(limbs + i, -block.load(limbs + i));
      return carry(block, limbs);
    };
    if (sign < 0) negate();
    const float magnitude = round_limbs(block, limbs);
    result[lane].value = sign < 0 ? -magnitude : magnitude;
    result[lane].sign = sign;
    if (threshold == 0.0f) return;
    if (sign < 0) negate();
    add_exactly<true>(block, limbs, -static_cast<double>(threshold));
    result[lane].sign = carry(block, limbs);
  });
  return result;
}

}  // namespace signsplit::gpu
