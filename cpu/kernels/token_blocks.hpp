// Several tokens: in which blocks the kernels take them.
#pragma once

#include "signsplit/portability.hpp"

namespace signsplit::cpu {
namespace {

template <int N>
struct Constant {
  static constexpr int value = N;
};

/// Calls block(size, first token) for the tokens in blocks of L::batch_tokens, then 4, 3, 2, 1.
template <class L, class Block>
inline void for_token_blocks(index_t batch, Block&& block) {
  index_t b = 0;
  for (; b + L::batch_tokens <= batch; b += L::batch_tokens) block(Constant<L::batch_tokens>{}, b);
  if constexpr (L::batch_tokens > 4) {
    if (b + 4 <= batch) block(Constant<4>{}, b), b += 4;
    if (b + 3 == batch) block(Constant<3>{}, b), b += 3;
  }
  if constexpr (L::batch_tokens > 2) {
    if (b + 2 <= batch) block(Constant<2>{}, b), b += 2;
  }
  if constexpr (L::batch_tokens > 1) {
    if (b < batch) block(Constant<1>{}, b);
  }
}

/// Elements of B tokens' x or y that take 16 KiB, or less: a multiple of 64 in any case.
template <int B>
inline constexpr index_t kSliceElems = 4096 / (B == 3 ? 4 : B);

/// Of how many tokens, one block, the registers hold the partial sums of a row.
template <class L>
constexpr index_t tokens_in_registers() {
  constexpr index_t fit = L::accumulators * L::width / 64;
  return fit < 4 ? fit : 4;
}

}  // namespace
}  // namespace signsplit::cpu
