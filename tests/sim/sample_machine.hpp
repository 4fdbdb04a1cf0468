// A machine with round numbers, so that predictions can be worked out by hand.
#pragma once

#include <cmath>
#include <string>

#include "signsplit/sim/machine.hpp"

namespace signsplit::test {

/// Two cores; 100 GB/s from caches up to 1 MB and 10 GB/s from main memory per thread; barrier 1 µs, fork-join 2 µs; kernels
/// at 10 Gelem/s and token. No correction of the model but the barest: no overlap loss, no gaps, no imbalance.
inline sim::Machine sample_machine() {
  using namespace sim;
  const auto assumed = [](double value, const char* unit) { return Quantity{value, unit, Kind::measured, "by hand", 0.0}; };
  Machine m;
  m.name = "sample";
  m.title = "a machine with round numbers";
  m.units = m.threads = 2;
  m.isa = "avx2";
  m.clock_hz = assumed(1e9, "Hz");
  m.levels = {{"L1d", assumed(32768, "B"), 1, 64}, {"L2", assumed(1e6, "B"), 1, 64}};
  m.read_bandwidth = {{1e4, 1, 100e9, 1e9}, {1e6, 1, 100e9, 0}, {1e8, 1, 10e9, 0}, {2e4, 2, 200e9, 0}, {2e6, 2, 200e9, 0}, {1e8, 2, 20e9, 0}};
  m.read_bandwidth_kind = Kind::measured;
  m.read_bandwidth_source = "by hand";
  m.barrier_s = {{1, assumed(0.0, "s")}, {2, assumed(1e-6, "s")}};
  m.fork_join_s = {{1, assumed(1e-6, "s")}, {2, assumed(2e-6, "s")}};
  m.rates.push_back({"avx2", "fma_f32", assumed(32e9, "FLOP/s")});
  for (const char* name : {"up_f32", "up_bf16", "down_f32", "down_bf16", "push_f32", "push_bf16", "streams_f32", "streams_bf16", "pieces_f32", "pieces_bf16"}) {
    m.rates.push_back({"avx2", name, assumed(10e9, "elem/s")});
  }
  for (const char* name : {"up_f32", "up_bf16", "down_f32", "down_bf16"}) {  // a further token costs what the first costs
    for (const int tokens : {2, 4, 8}) m.rates.push_back({"avx2", name + ("_" + std::to_string(tokens)), assumed(10e9 / tokens, "elem/s")});
  }
  m.rates.push_back({"avx2", "exact", assumed(1e8, "elem/s")});
  m.model["stream_efficiency"] = m.model["small_page_efficiency"] = m.model["cache_efficiency"] = assumed(1.0, "1");
  m.model["input_rate"] = m.model["quantize_rate"] = m.model["exchange_rate"] = m.model["batch_read_rate"] = m.model["row_read_rate"] = m.model["mixed_rate"] = m.model["split_stall_rate"] = m.model["streams_stall_rate"] = assumed(1e18, "B/s");
  for (const char* name : {"overlap_loss", "batch_overlap_loss", "cache_overlap_loss", "split_overlap_loss", "streams_overlap_loss", "certified_overlap_loss", "imbalance", "skip_lost_share", "skip_batch_lost_share", "fused_lost_share", "fused_batch_lost_share", "survivor_lost_share", "error", "cache_error", "gap_error", "cache_gap_error", "unlike_error"}) m.model[name] = assumed(0.0, "1");
  m.model["certify_token_share"] = assumed(1.0, "1");
  m.model["gather_gap_bytes"] = assumed(0.0, "B");
  m.model["first_byte_s"] = assumed(0.0, "s");
  m.model["piece_overhead_s"] = m.model["push_batch_s"] = m.model["thread_wait_s"] = assumed(0.0, "s");
  m.model["gather_gap_rows"] = assumed(1e6, "1");
  for (const char* name : {"push_overhead_s", "push_token_s", "streams_overhead_s", "streams_token_s", "piece_batch_s", "streams_batch_s", "redo_overhead_s", "row_overhead_s", "skip_overhead_s", "certify_overhead_s", "split_miss_s", "streams_miss_s", "batch_miss_s", "further_block_s", "certify_batch_s", "switch_s", "unannounced_s", "unannounced_gated_s", "guess_overhead_s", "guess_batch_s", "batch_row_wait_s", "batch_row_s", "unasked_s", "survivor_s", "barrier_wait_s", "memory_wait_s"}) m.model[name] = assumed(0.0, "s");
  m.noise_cv = 0.01;
  return m;
}

/// Within a share of the expected value. doctest's Approx allows an absolute distance as well, which is more than most times are.
inline bool within(double value, double expected, double share) { return std::abs(value - expected) <= share * std::abs(expected); }

}  // namespace signsplit::test
