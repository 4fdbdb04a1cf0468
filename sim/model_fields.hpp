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
    {"stream_efficiency", "1", 1.0},   // bandwidth that the kernels' row streams reach, share of a pure load loop's
    {"small_page_efficiency", "1", 0.75},  // ... of main memory, times this for matrices too small for a huge page
    {"cache_efficiency", "1", 1.0},    // the same where a cache holds the weights
    {"overlap_loss", "1", 0.15},       // share of the smaller of stream and arithmetic that is not hidden
    {"cache_overlap_loss", "1", 0.05},  // the same where a cache holds the weights; every schedule
    {"gather_gap_rows", "1", 3.0},     // ... but not more than so many rows' bytes
    {"split_overlap_loss", "1", 0.2},  // overlap_loss of sign_split
    {"streams_overlap_loss", "1", 0.2},  // ... with streams
    {"certified_overlap_loss", "1", 0.7},  // ... of certified, which knows its next rows only when a tile is certified
    {"restored_cost", "1", 3.0},       // placement residual: restoring a weight, in units of multiplying one of product 1
    {"input_rate", "B/s", 4e10},       // x is copied and looked at by one thread before the workers start
    {"push_batch_s", "s", 2e-7},     // ... of the other variants of sign_split
    {"telescoping_share", "1", 0.8},   // what a row piece of telescoping, which keeps no sums for a repair, costs of one of interim
    {"redo_overhead_s", "s", 2.5e-8},    // sign_split: per row and token that is computed once more, beyond its elements
    {"quantize_rate", "B/s", 4e9},     // certified: x is quantized by one thread before the workers start
    {"batch_read_rate", "B/s", 5e10},  // row_read_rate of several tokens
    {"batch_overlap_loss", "1", 0.15},  // overlap_loss of several tokens
    {"push_token_s", "s", 2.4e-8},  // sign_split, several tokens: per row piece and token
    {"streams_token_s", "s", 3e-8},  // ... with streams
    {"piece_batch_s", "s", 5e-8},      // ... and per row piece of product 1
    {"streams_batch_s", "s", 1.6e-7},  // ... of sign_split's streams
    {"thread_wait_s", "s", 3e-6},      // more than one thread: what a call's fork and join take beyond those of an empty loop
    {"barrier_wait_s", "s", 1.5e-7},     // ... what a barrier between two products takes beyond one of an empty loop
    {"memory_wait_s", "s", 5e-7},       // ... and where main memory serves the weights
    {"gather_gap_bytes", "B", 2400.0},  // bytes' worth of time lost whenever the address stream jumps
    {"switch_s", "s", 3e-8},  // row_fused: reading goes on in the other matrix, per tile and change
    {"unannounced_s", "s", 7e-8},  // unfused with skip: per tile of product 2, whose rows nothing has asked for ahead
    {"unasked_s", "s", 8e-7},  // row_fused with skip, f32 of one token: the same, as its kernels ask for nothing
    {"guess_overhead_s", "s", 1.7e-9},  // row_fused with skip, and gated with skip: per unit, to ask early for the rows that are open
    {"guess_batch_s", "s", 3.5e-9},  // ... of more than two tokens
    {"skip_lost_share", "1", 0.19},  // skip, from main memory: bytes' worth of time that rows read by a list lose beside their jumps, share of their bytes
    {"unannounced_gated_s", "s", 4e-7},  // ... gated
    {"skip_batch_lost_share", "1", 0.19},  // ... of several tokens
    {"fused_batch_lost_share", "1", 0.005},  // row_fused of several tokens, from main memory: of all weights, read from two matrices in turns
    {"fused_lost_share", "1", 0.01},  // row_fused, from main memory: of all weights, read from two matrices in turns
    {"survivor_lost_share", "1", 0.12},  // certified: of the rows of the units that it leaves
    {"batch_row_s", "s", 3.5e-9},     // unfused with skip, more than 4 tokens: per row of product 2
    {"batch_row_wait_s", "s", 4e-8},  // unfused with skip, more than 4 tokens, rows below a page, from main memory: per row of product 2
    {"first_byte_s", "s", 1e-7},       // from the start of a phase to its first weights
    {"prefetch_bytes", "B", 4096.0},   // level 2: loaded by a worker that waits at a barrier, of what it does after it
    {"imbalance", "1", 0.025},          // weights in a cache: wait for the slowest of many workers, share of a phase
    {"piece_overhead_s", "s", 3e-9},   // per row piece of product 1 and token: folding the accumulators, activation
    {"push_overhead_s", "s", 4e-8},    // the same under sign_split, which also keeps its streams and decides what to push
    {"streams_overhead_s", "s", 3e-8},  // the same with streams
    {"row_overhead_s", "s", 4e-9},     // per row of product 2 beyond its elements
    {"further_block_s", "s", 2e-8},    // more tokens than a kernel takes at once: per row of either product and further block
    {"skip_overhead_s", "s", 5e-9},    // ... more when rows are skipped: the list of those that are not, and a jump to each
    {"certify_overhead_s", "s", 1.5e-9},  // per unit and token that a certificate judges, beyond the elements of its plane
    {"survivor_s", "s", 4e-9},  // ... and per unit that it leaves
    {"certify_batch_s", "s", 5e-9},    // ... more than one token: and per unit
    {"certify_token_share", "1", 0.9},  // ... elements of its plane: what a further token takes of the first
    {"row_read_rate", "B/s", 6e10},     // that a thread gets from main memory at most
    {"split_stall_rate", "B/s", 5.5e10},  // sign_split: of waiting for bytes of main memory, beside its arithmetic
    {"streams_stall_rate", "B/s", 2.3e10},  // ... with streams, whose kernel asks for nothing ahead
    {"mixed_rate", "B/s", 1.2e11},      // of waiting where half of the lines come from main memory and half from a cache
    {"split_miss_s", "s", 1.5e-8},       // sign_split from main memory: per row piece, waiting for its first bytes
    {"batch_miss_s", "s", 5e-9},       // several tokens, not sign_split: per row of either product
    {"streams_miss_s", "s", 2e-8},     // ... with streams
    {"exchange_rate", "B/s", 5e10},    // what one core wrote and another reads: x, h and the partial sums of y
    {"gemm_efficiency", "1", 0.9},     // of the peak that a vendor's f32 matrix products reach with many tokens
    {"gemm_token_overhead", "1", 10.0},  // tokens' worth of multiplications that they waste besides
    {"error", "1", 0.12},              // relative half width of what the equations leave out, 90 %, weights from main memory
    {"cache_error", "1", 0.14},        // the same of weights in a cache
    {"gap_error", "1", 0.0035},        // of the difference of two schedules that share most of their terms: beyond it a sign is right in 6 of 11 cases
    {"cache_gap_error", "1", 0.0035},  // ... weights in a cache
    {"unlike_error", "1", 0.016},      // ... of two that share few
};

[[nodiscard]] constexpr const ModelField* find_model_field(std::string_view name) noexcept {
  for (const ModelField& field : kModelFields) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

}  // namespace signsplit::sim
