// Rows that lie apart, from memory: the limit of what skipping and certificates leave to be read. Every eighth of 16384 rows of 8 KiB, two
// threads, one half each: plain loads of a stream of as many bytes, plain loads of those rows, and the kernels that compute with them.
#include <benchmark/benchmark.h>

#include <cstring>
#include <vector>

#include "cpu/isa.hpp"
#include "signsplit/aligned_buffer.hpp"
#include "signsplit/synthetic.hpp"

namespace signsplit {
namespace {

constexpr index_t kRows = 16384, kColumns = 4096, kRowBytes = 2 * kColumns, kEvery = 8;
enum class What { stream, loads, dot, add };

/// Nothing but loads, one of every cache line: as many lines are on their way as the processor can look ahead.
void load(const std::byte* memory, index_t bytes) {
  std::uint64_t sum = 0;
  for (index_t at = 0; at < bytes; at += 64) {
    std::uint64_t word;
    std::memcpy(&word, memory + at, sizeof word);
    sum ^= word;
  }
  benchmark::DoNotOptimize(sum);
}

float* floats(AlignedBuffer& buffer) { return reinterpret_cast<float*>(buffer.data()); }

/// A matrix of bfloat16 weights around 1, larger than any last-level cache, and what the kernels need beside it.
struct Rows {
  AlignedBuffer matrix{static_cast<std::size_t>(kRows * kRowBytes)};
  std::vector<index_t> list[kEvery][2];  ///< [turn][thread]
  AlignedBuffer x{kColumns * sizeof(float)}, sums{kRows * sizeof(float)}, y{2 * kColumns * sizeof(float)};

  Rows() {
    auto* weights = reinterpret_cast<std::uint16_t*>(matrix.data());
    for (index_t i = 0; i < kRows * kColumns; ++i) {
      weights[i] = static_cast<std::uint16_t>(0x3f80 ^ (random_bits(1, static_cast<std::uint64_t>(i)) & 0x807f));
    }
    for (index_t row = 0; row < kRows; ++row) list[row % kEvery][row >= kRows / 2 ? 1 : 0].push_back(row);
  }
  void read(What what, index_t turn, int thread) {
    const std::vector<index_t>& rows = list[turn % kEvery][thread];
    const cpu::KernelTable& kernels = cpu::kernels_for(cpu::supported_isas().back());
    const auto type = static_cast<std::size_t>(DType::bf16);
    const auto count = static_cast<index_t>(rows.size());
    const cpu::RowList apart{matrix.data(), kRowBytes, kRowBytes, rows.data(), 0, count};
    float* const values = floats(sums) + thread * kRows / 2;
    switch (what) {
      case What::stream: return load(matrix.data() + (turn % kEvery * 2 + thread) * count * kRowBytes, count * kRowBytes);
      case What::loads:
        for (const index_t row : rows) load(matrix.data() + row * kRowBytes, kRowBytes);
        return;
      case What::dot:
        return kernels.dot[type]({.list = apart,
                                  .next = {},
                                  .asked_bytes = 0,
                                  .x = floats(x),
                                  .x_stride = kColumns,
                                  .packed_x = nullptr,
                                  .batch = 1,
                                  .k = kColumns,
                                  .first = true,
                                  .last = true,
                                  .partials = nullptr,
                                  .sums = values,
                                  .absolute_sums = nullptr,
                                  .scales = nullptr,
                                  .scale_stride = 0,
                                  .group = 0,
                                  .k_begin = 0});
      case What::add:
        return kernels.add[type]({.list = apart,
                                  .next = {},
                                  .asked_bytes = 0,
                                  .coefficients = values,
                                  .y = floats(y) + thread * kColumns,
                                  .y_stride = kColumns,
                                  .batch = 1,
                                  .columns = kColumns,
                                  .scales = nullptr,
                                  .group = 0,
                                  .scale_stride = kColumns});
    }
  }
};

void run_apart(benchmark::State& state, What what) {
  static Rows rows;
  index_t turn = 0;
  for (auto _ : state) {
#pragma omp parallel for num_threads(2) schedule(static)
    for (int thread = 0; thread < 2; ++thread) rows.read(what, turn, thread);
    ++turn;
  }
  state.SetBytesProcessed(state.iterations() * (kRows / kEvery) * kRowBytes);
}

BENCHMARK_CAPTURE(run_apart, stream, What::stream)->Name("apart/stream")->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(run_apart, loads, What::loads)->Name("apart/loads")->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(run_apart, dot, What::dot)->Name("apart/dot")->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(run_apart, add, What::add)->Name("apart/add")->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace signsplit
