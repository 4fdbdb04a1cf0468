// Packing: the transposition of W2 into hidden-major rows, once per layer at load time; and rounding a layer to int8.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include "signsplit/synthetic.hpp"
#include "signsplit/weights.hpp"

namespace signsplit {
namespace {

/// Small finite values of either type: the bits of a number between 1 and 2.
std::vector<std::byte> finite_elements(index_t count, DType dtype) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(count * dtype_bytes(dtype)));
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(random_bits(1, i));
  const auto width = static_cast<std::size_t>(dtype_bytes(dtype));
  for (std::size_t end = width; end <= bytes.size(); end += width) {
    bytes[end - 1] = std::byte{0x3f};
    bytes[end - 2] |= std::byte{0x80};
  }
  return bytes;
}

void pack_layer(benchmark::State& state, DType dtype) {
  const index_t d = state.range(0), f = state.range(1);
  const auto up = finite_elements(d * f, dtype), down = finite_elements(d * f, dtype);
  LayerTensors layer;
  layer.d_model = d;
  layer.d_ff = f;
  layer.dtype = dtype;
  layer.up = up;
  layer.down = down;
  for (auto _ : state) {
    auto weights = Weights::pack(layer);
    if (!weights) {
      state.SkipWithError(weights.message().c_str());
      break;
    }
    benchmark::DoNotOptimize(weights->down());
  }
  state.SetBytesProcessed(state.iterations() * 2 * d * f * dtype_bytes(dtype));
}
BENCHMARK_CAPTURE(pack_layer, bf16, DType::bf16)->Args({768, 3072})->Args({2048, 8192})->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(pack_layer, f32, DType::f32)->Args({768, 3072})->Args({2048, 8192})->Unit(benchmark::kMillisecond);

void quantize_layer(benchmark::State& state) {
  const auto layer = synthetic_weights({.d_model = 768, .d_ff = 3072, .dtype = DType::bf16, .activation = {}}, 0.5, 1);
  for (auto _ : state) {
    auto rounded = layer ? layer->quantize(state.range(0)) : layer.status();
    if (!rounded) {
      state.SkipWithError(rounded.message().c_str());
      break;
    }
    benchmark::DoNotOptimize(rounded->down());
  }
  if (layer) state.SetBytesProcessed(state.iterations() * weight_bytes(layer->problem()));
}
BENCHMARK(quantize_layer)->ArgName("group")->Arg(0)->Arg(128)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace signsplit
