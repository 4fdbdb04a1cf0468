// Tile kernels by themselves: 128 rows of 1024 weights, which stay in the second-level cache, for every instruction set, stored
// type and 1, 4, 8 or 16 tokens, one call after the other, each asking ahead for the next, with y as the executor lays it out. Bytes per
// second are those of the weights. Fewer than memory delivers here means that no schedule can be memory-bound with this type. And gelu,
// gelu_tanh and silu of 16384 units.
#include <benchmark/benchmark.h>

#include <numeric>
#include <string>
#include <vector>

#include "cpu/isa.hpp"
#include "signsplit/aligned_buffer.hpp"
#include "signsplit/synthetic.hpp"

namespace signsplit {
namespace {

constexpr index_t kRows = 128, kColumns = 1024, kStrideOfY = kColumns + 128;

struct Tile {
  Weights weights;
  std::vector<float> x, coefficients;  // [batch, columns], [rows, batch]
  AlignedBuffer packed_x, y, sums;
  cpu::RowList up, down;

  Tile(Weights layer, index_t batch)
      : weights(std::move(layer)), x(synthetic_input(batch, kColumns, 2)), coefficients(synthetic_input(batch, kRows, 3)),
        packed_x(x.size() * sizeof(float)), y(static_cast<std::size_t>(batch * kStrideOfY) * sizeof(float)), sums(coefficients.size() * sizeof(float)),
        up(rows(weights.up())), down(rows(weights.down())) {}

  [[nodiscard]] cpu::RowList rows(const std::byte* matrix) const {
    return {matrix, weights.row_bytes(), weights.row_bytes(), nullptr, 0, kRows};
  }
};

float* floats(AlignedBuffer& buffer) { return reinterpret_cast<float*>(buffer.data()); }

const std::uint16_t* bits(std::span<const bf16> scales) { return scales.empty() ? nullptr : &scales.data()->bits; }

cpu::DotRows dot_arguments(Tile& tile, index_t batch) {
  const Weights& w = tile.weights;
  return {.list = tile.up,
          .next = tile.up,
          .asked_bytes = kRows * tile.up.bytes,
          .x = tile.x.data(),
          .x_stride = kColumns,
          .packed_x = floats(tile.packed_x),
          .batch = batch,
          .k = kColumns,
          .first = true,
          .last = true,
          .partials = nullptr,
          .sums = floats(tile.sums),
          .absolute_sums = nullptr,
          .scales = bits(w.up_scales()),
          .scale_stride = w.input_groups(),
          .group = w.group(),
          .k_begin = 0};
}

cpu::AddRows add_arguments(Tile& tile, index_t batch) {
  return {.list = tile.down,
          .next = tile.down,
          .asked_bytes = kRows * tile.down.bytes,
          .coefficients = tile.coefficients.data(),
          .y = floats(tile.y),
          .y_stride = kStrideOfY,
          .batch = batch,
          .columns = kColumns,
          .scales = bits(tile.weights.down_scales()),
          .group = tile.weights.group(),
          .scale_stride = kColumns};
}

void run_tile(benchmark::State& state, cpu::Isa isa, DType dtype, bool dot, index_t batch) {
  auto layer = synthetic_weights({.d_model = kColumns, .d_ff = kRows, .dtype = dtype, .activation = {}}, 0.5, 1, 1);
  if (!layer) {
    state.SkipWithError(layer.message().c_str());
    return;
  }
  Tile tile(std::move(layer).value(), batch);
  const cpu::KernelTable& kernels = cpu::kernels_for(isa);
  const auto type = static_cast<std::size_t>(dtype);
  kernels.pack_x({tile.x.data(), batch, kColumns, floats(tile.packed_x)});
  const cpu::DotRows dot_rows = dot_arguments(tile, batch);
  const cpu::AddRows add_rows = add_arguments(tile, batch);
  for (auto _ : state) {
    dot ? kernels.dot[type](dot_rows) : kernels.add[type](add_rows);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * kRows * tile.weights.row_bytes());
}

/// gelu, gelu_tanh or silu of as many units as 4096x16384 has.
void run_smooth(benchmark::State& state, cpu::Isa isa, ActivationKind kind) {
  const std::vector<float> z = synthetic_input(1, 16384, 1);
  std::vector<float> h(z.size());
  const auto kernel = cpu::smooth_kernel(cpu::kernels_for(isa), kind);
  for (auto _ : state) {
    kernel(z.data(), static_cast<index_t>(z.size()), h.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(z.size()));
}

const bool registered = [] {
  for (const cpu::Isa isa : cpu::supported_isas()) {
    for (const auto kind : {ActivationKind::gelu, ActivationKind::gelu_tanh, ActivationKind::silu}) {
      const std::string name = "tile/" + to_string({kind}) + "/" + std::string(cpu::to_string(isa));
      benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { run_smooth(state, isa, kind); })->Unit(benchmark::kMicrosecond);
    }
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::int8}) {
      for (const bool dot : {true, false}) {
        for (const index_t batch : {1, 4, 8, 16}) {
          const std::string name = std::string("tile/") + (dot ? "dot/" : "add/") + std::string(cpu::to_string(isa)) + "/" +
                                   std::string(to_string(dtype)) + "/batch:" + std::to_string(batch);
          benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { run_tile(state, isa, dtype, dot, batch); })
              ->Unit(benchmark::kMicrosecond);
        }
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace signsplit
