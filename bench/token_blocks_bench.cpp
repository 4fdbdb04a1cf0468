// Both products of several tokens in the best order that we know, on a stream from memory: what they must load and add, and nothing
// else. Beside `peak/read_for_tokens`, which has no x and hardly a y, this is the limit of calls of 4 and 8 tokens: no lists of
// rows, no scales, no K tiles, no activation, no parts. Of the fold of the partial sums only the additions of whole vectors.
//
//   signsplit_bench --benchmark_filter=peak/token_blocks/.*threads:2 --benchmark_enable_random_interleaving=true --benchmark_repetitions=9
#include <benchmark/benchmark.h>

#include <string>

#include "signsplit/aligned_buffer.hpp"
#include "signsplit/portability.hpp"

#if defined(__x86_64__)
#include "token_blocks.hpp"

namespace signsplit {
namespace {

constexpr index_t kMostElems = 4096, kMostTokens = 8, kMostRows = 24;

/// Group after group of a thread's own stream: from memory; or the same group, from the second-level cache.
template <int kLevel, bool kTwice>
void take_stream(benchmark::State& state, const Shape& shape, bool from_memory, void (*group)(const Memory&, const Shape&, Requests<kLevel, kTwice>&)) {
  const index_t group_bytes = shape.rows * shape.elems * 2, all = (index_t{256} << 20) / state.threads() / group_bytes * group_bytes;
  const index_t own = from_memory ? all : group_bytes;
  AlignedBuffer weights(static_cast<std::size_t>(own + shape.ahead));
  AlignedBuffer x(static_cast<std::size_t>(kMostTokens * (kMostElems + 128)) * sizeof(float));
  AlignedBuffer sums(static_cast<std::size_t>(kMostRows * kMostTokens * 64) * sizeof(float));
  for (index_t i = 0; i < own + shape.ahead; i += 64) weights.data()[i] = static_cast<std::byte>(i >> 6);
  Memory memory{weights.data(), reinterpret_cast<float*>(x.data()), reinterpret_cast<float*>(sums.data())};
  for (auto _ : state) {
    Requests<kLevel, kTwice> requests{weights.data() + shape.ahead};
    for (index_t at = 0; at < own; at += group_bytes) {
      memory.weights = weights.data() + at;
      group(memory, shape, requests);
    }
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * own);
}

template <int kLevel, bool kTwice>
void add(const char* name, const Shape& shape, bool from_memory, void (*group)(const Memory&, const Shape&, Requests<kLevel, kTwice>&)) {
  const std::string full = "peak/token_blocks/" + std::string(name) + "/elems:" + std::to_string(shape.elems) + (from_memory ? "/memory" : "/cache");
  benchmark::RegisterBenchmark(full.c_str(), [=](benchmark::State& state) { take_stream(state, shape, from_memory, group); })
      ->ThreadRange(1, 2)
      ->UseRealTime();
}

const bool registered = [] {
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw")) return true;
  constexpr index_t kKiB = 1024;
  // 4 tokens whose x or y the first-level cache holds: row after row.
  add<1, true>("dot/batch:4", {2048, 1, 2048, 10 * kKiB}, true, dot_group<1, 4, 4>);
  add<1, false>("add/batch:4", {2048, 2, 2048, 16 * kKiB}, true, add_group<2, 4>);
  // Groups of rows that the second-level cache holds, each asked for while the one before is computed.
  add<2, true>("dot/batch:4", {4096, 24, 2048, 24 * 8 * kKiB}, true, dot_group<1, 4, 2>);
  add<2, true>("add/batch:4", {4096, 24, 1024, 24 * 8 * kKiB}, true, add_group<6, 4>);
  for (const index_t elems : {2048, 4096}) {
    for (const bool from_memory : {true, false}) {
      add<2, true>("dot/batch:8", {elems, 24, 2048, 24 * elems * 2}, from_memory, dot_group<3, 8, 1>);
      add<2, true>("add/batch:8", {elems, 24, 512, 24 * elems * 2}, from_memory, add_group<3, 8>);
    }
  }
  return true;
}();

}  // namespace
}  // namespace signsplit
#endif
