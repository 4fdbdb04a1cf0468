// Loops over units and their tokens.
#pragma once

#include "token_blocks.hpp"

namespace signsplit::cpu {
namespace {

/// loop(batch), as a constant for the usual batches: where a loop over the tokens is of unknown length, each unit costs 5 ns.
template <class Loop>
inline auto with_batch(index_t batch, Loop&& loop) {
  switch (batch) {
    case 1: return loop(Constant<1>{});
    case 2: return loop(Constant<2>{});
    case 4: return loop(Constant<4>{});
    case 8: return loop(Constant<8>{});
    case 16: return loop(Constant<16>{});
    default: return loop(batch);
  }
}
template <int N>
constexpr index_t count_of(Constant<N>) { return N; }
inline index_t count_of(index_t n) { return n; }

}  // namespace
}  // namespace signsplit::cpu
