// The corrections of the cost model that a profile may hold, and what is assumed when it does not (docs/simulator.md).
#pragma once

#include <span>
#include <string_view>

namespace signsplit::sim {

struct ModelField {
  std::string_view name;
  std::string_view base_unit;
  double assumed;
};

inline constexpr ModelField kModelFields[] = {
    {"stream_efficiency", "1", 0.9},   // bandwidth that the kernels' row streams reach, share of a pure load loop's
    {"cache_efficiency", "1", 0.9},    // the same where a cache holds the weights
    {"overlap_loss", "1", 0.05},       // share of the smaller of stream and arithmetic that is not hidden
    {"gather_gap_rows", "1", 1.0},     // ... but not more than so many rows' bytes
    {"split_overlap_loss", "1", 0.3},  // overlap_loss of sign_split
    {"streams_overlap_loss", "1", 0.8},  // ... with streams, whose kernel asks for nothing ahead
    {"certified_overlap_loss", "1", 0.6},  // ... of certified, which knows its next rows only when a tile is certified
    {"restored_cost", "1", 3.0},       // placement residual: restoring a weight, in units of multiplying one of product 1
    {"input_rate", "B/s", 4e10},       // x is copied and looked at by one thread before the workers start
    {"push_batch_s", "s", 2.5e-7},     // per row piece under sign_split, for a batch of more than one token
    {"late_token_share", "1", 0.8},    // what a token beyond the fourth costs, of one before it
    {"thread_wait_s", "s", 1e-6},      // more than one thread: what a call's fork and join take beyond those of an empty loop
    {"gather_gap_bytes", "B", 512.0},  // bytes' worth of time lost whenever the address stream jumps
    {"first_byte_s", "s", 3e-7},       // from the start of a phase to its first weights
    {"prefetch_bytes", "B", 4096.0},   // level 2: loaded by a worker that waits at a barrier, of what it does after it
    {"imbalance", "1", 0.01},          // wait for the slowest of many workers, share of a phase
    {"piece_overhead_s", "s", 1e-8},   // per row piece of product 1 and token: folding the accumulators, activation
    {"push_overhead_s", "s", 3e-8},    // the same under sign_split, which also keeps its streams and decides what to push
    {"gemm_efficiency", "1", 0.9},     // of the peak that a vendor's f32 matrix products reach with many tokens
    {"gemm_token_overhead", "1", 10.0},  // tokens' worth of multiplications that they waste besides
    {"error", "1", 0.15},              // relative half width of what the equations leave out, 90 %
    {"gap_error", "1", 0.03},          // the same of the difference of two schedules, share of the time
};

[[nodiscard]] constexpr const ModelField* find_model_field(std::string_view name) noexcept {
  for (const ModelField& field : kModelFields) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

}  // namespace signsplit::sim
