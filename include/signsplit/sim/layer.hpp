// The whole-layer view: what one decoding step of a transformer layer reads and takes, FFN against attention, by context length.
#pragma once

#include <cstdint>

#include "signsplit/sim/predict.hpp"

namespace signsplit::sim {

/// The attention beside an FFN: projections Q [D, D], K and V [D, kv_width], O [D, D] in the FFN's weight type, and a cache
/// of keys and values for every token of the batch.
struct Attention {
  index_t kv_width = 0;          ///< KV heads times head dimension; 0: D, as in multi-head attention
  index_t kv_element_bytes = 2;  ///< of the cached keys and values
};

/// Bytes that one step of B tokens reads. Weights once, the cache of every token separately.
struct LayerBytes {
  std::uint64_t ffn = 0;          ///< weights of the dense FFN
  std::uint64_t projections = 0;  ///< weights of Q, K, V and O
  std::uint64_t kv_cache = 0;     ///< B · context · 2 · kv_width · kv_element_bytes
};
[[nodiscard]] LayerBytes layer_bytes(const Problem& problem, const Attention& attention, index_t context);

/// The context at which the cache weighs as much as the dense FFN.
[[nodiscard]] double break_even_context(const Problem& problem, const Attention& attention);

/// Seconds of the attention's share of a step: its bytes at the bandwidth from main memory that the kernels' streams reach, and
/// three boundaries (projections, attention, output), each a barrier on a CPU and a kernel on a GPU. Arithmetic is taken as
/// hidden: decoding reads every byte for a few operations. invalid_argument as for predict().
[[nodiscard]] Result<double> attention_s(const Scenario& scenario, const Attention& attention, index_t context, const Machine& machine);

}  // namespace signsplit::sim
