// The integers of one group of a token, for a certificate. The instruction sets' files include it too, so it is light, and everything has
// internal linkage. All have the same bits, because nothing is contracted or reordered.
#pragma once

#include <cstdint>

#include "signsplit/certificate_panel.hpp"

namespace signsplit {
namespace {

/// Eight sums at once, so that none waits for the addition before it.
constexpr index_t kSumLanes = 8;
inline double total(const double (&sums)[kSumLanes]) {
  double sum = 0.0;
  for (const double one : sums) sum += one;
  return sum;
}

/// Columns come by 64: loops of a known length, one operation each, that compilers turn into vectors.
constexpr index_t kColumnBlock = 64;

struct BlockIntegers {
  std::int32_t integers[kColumnBlock];
  std::int16_t halves[kColumnBlock];
  std::int8_t highs[kColumnBlock], lows[kColumnBlock];
};

/// X = 128·high + low. Any integer in the range will do, since the error is taken from what it came to; it is within 1 of the nearest.
inline void round_block(const float* x, float inverse, BlockIntegers& block, std::int32_t& high_sum, std::int32_t& low_sum) {
  constexpr float kToNearest = 0x1.8p23f, kMost = static_cast<float>(kMaxQuantizedX);  // adding the first leaves no bits for a fraction
  for (index_t k = 0; k < kColumnBlock; ++k) {
    float rounded = (x[k] * inverse + kToNearest) - kToNearest;
    rounded = rounded < kMost ? rounded : kMost;
    rounded = rounded > -kMost ? rounded : -kMost;
    block.integers[k] = static_cast<std::int32_t>(rounded);
  }
  for (index_t k = 0; k < kColumnBlock; ++k) {
    const std::int32_t integer = block.integers[k], high = (integer + 64) >> 7, low = integer - high * 128;
    block.halves[k] = static_cast<std::int16_t>(integer);
    block.highs[k] = static_cast<std::int8_t>(high);
    block.lows[k] = static_cast<std::int8_t>(low);
    high_sum += high;
    low_sum += low;
  }
}

inline void store_block(const BlockIntegers& block, QuantizedQuad* quads) {
  for (index_t k = 0; k < kColumnBlock; k += 4, ++quads) {
    __builtin_memcpy(quads->high, block.highs + k, 4);
    __builtin_memcpy(quads->low, block.lows + k, 4);
    quads->even[0] = block.halves[k];
    quads->even[1] = block.halves[k + 2];
    quads->odd[0] = block.halves[k + 1];
    quads->odd[1] = block.halves[k + 3];
  }
}

/// group.step is given; its starts are set.
inline GroupSums quantize_columns(const float* x, index_t columns, QuantizedQuad* quads, QuantizedGroup& group) {
  const double step = static_cast<double>(group.step);
  const float inverse = 1.0f / group.step;
  double errors[kSumLanes] = {}, squares[kSumLanes] = {};
  std::int32_t high_sum = 0, low_sum = 0;
  BlockIntegers block;
  for (index_t begin = 0; begin < columns; begin += kColumnBlock) {
    round_block(x + begin, inverse, block, high_sum, low_sum);
    store_block(block, quads + begin / 4);
    for (index_t k = 0; k < kColumnBlock; k += kSumLanes) {
      for (index_t i = 0; i < kSumLanes; ++i) {
        const double value = static_cast<double>(x[begin + k + i]);
        errors[i] += __builtin_fabs(value - step * static_cast<double>(block.integers[k + i]));
        squares[i] += value * value;
      }
    }
  }
  group.start_high = -128 * high_sum;
  group.start_low = -128 * low_sum;
  group.start = 128 * group.start_high + group.start_low;
  return {total(errors), total(squares)};
}

}  // namespace
}  // namespace signsplit
