// Several tokens: in which blocks the kernels take them.
#pragma once

#include "signsplit/portability.hpp"

namespace signsplit::cpu {
namespace {

template <int N>
struct Constant {
  static constexpr int value = N;
};

/// Calls block(size, first token) for the tokens in blocks of L::batch_tokens, then 4, 2, 1.
template <class L, class Block>
inline void for_token_blocks(index_t batch, Block&& block) {
  index_t b = 0;
  for (; b + L::batch_tokens <= batch; b += L::batch_tokens) block(Constant<L::batch_tokens>{}, b);
  if constexpr (L::batch_tokens > 4) {
    if (b + 4 <= batch) block(Constant<4>{}, b), b += 4;
  }
  if constexpr (L::batch_tokens > 2) {
    if (b + 2 <= batch) block(Constant<2>{}, b), b += 2;
  }
  if constexpr (L::batch_tokens > 1) {
    if (b < batch) block(Constant<1>{}, b);
  }
}

}  // namespace
}  // namespace signsplit::cpu
