// Whole calls of a layer that stays in the last-level cache (768x3072, one token), and their limit: a call that does nothing but what
// every such call must do. x is copied, the threads are forked, each reads its parts of both matrices with plain loads (one stream, asked
// for ahead, which is the fastest reader of that cache here), writes a y of its own, the second to be done adds the two, and they join. The
// same bytes, parts and threads as row_fused; oneDNN beside it, where the build has it.
//
//   signsplit_bench --benchmark_filter=^call/ --benchmark_enable_random_interleaving=true --benchmark_repetitions=9
#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "signsplit/cpu.hpp"
#include "signsplit/synthetic.hpp"
#include "signsplit/walk.hpp"
#if defined(SIGNSPLIT_HAS_ONEDNN)
#include "cpu/baselines/onednn.hpp"
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace signsplit {
namespace {

const Problem kProblem{.d_model = 768, .d_ff = 3072};

const Weights* layer_of(DType dtype) {
  static std::map<DType, Weights> layers;
  if (const auto known = layers.find(dtype); known != layers.end()) return &known->second;
  Problem problem = kProblem;
  problem.dtype = dtype;
  auto layer = synthetic_weights(problem, 0.5, 1);
  return layer ? &layers.emplace(dtype, std::move(layer).value()).first->second : nullptr;
}

/// Calls run() over and over.
template <class Run>
void time_calls(benchmark::State& state, const Weights& layer, Run&& run) {
  const std::vector<float> x = synthetic_input(1, kProblem.d_model, 2);
  std::vector<float> y(x.size());
  for (auto _ : state) run(x, y);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(weight_bytes(layer.problem(1))));
}

void row_fused(benchmark::State& state, DType dtype, int threads) {
  const Weights* const layer = layer_of(dtype);
  if (layer == nullptr) return state.SkipWithError("no layer");
  auto ffn = cpu::Ffn::create(*layer, default_plan(layer->problem(1), Strategy::row_fused), 1, {.threads = threads, .isa = {}});
  if (!ffn) return state.SkipWithError(ffn.message().c_str());
  time_calls(state, *layer, [&](const std::vector<float>& x, std::vector<float>& y) {
    if (!ffn->run(x, y).ok()) state.SkipWithError("refused");
  });
}

#if defined(SIGNSPLIT_HAS_ONEDNN)
void onednn(benchmark::State& state, DType dtype, int threads) {
  const Weights* const layer = layer_of(dtype);
  if (layer == nullptr) return state.SkipWithError("no layer");
  auto ffn = baselines::OneDnnFfn::create(*layer, 1, threads);
  if (!ffn) return state.SkipWithError(ffn.message().c_str());
  time_calls(state, *layer, [&](const std::vector<float>& x, std::vector<float>& y) {
    if (!ffn->run(x, y).ok()) state.SkipWithError("refused");
  });
}
#endif

#if defined(__x86_64__)

__attribute__((noinline, target("avx512f"))) void read_bytes(const std::byte* data, index_t bytes) {
  constexpr index_t ahead = 6 * 1024;
  __m512i a = _mm512_setzero_si512(), b = a;
  for (index_t i = 0; i < bytes; i += 128) {
    __builtin_prefetch(data + i + ahead);
    __builtin_prefetch(data + i + ahead + 64);
    a = _mm512_xor_si512(a, _mm512_load_si512(data + i));
    b = _mm512_xor_si512(b, _mm512_load_si512(data + i + 64));
  }
  asm volatile("" : : "v"(a), "v"(b));
}

void reads(benchmark::State& state, DType dtype, int threads) {
  const Weights* const layer = layer_of(dtype);
  if (layer == nullptr) return state.SkipWithError("no layer");
  const Plan plan = default_plan(layer->problem(1), Strategy::row_fused);
  const WalkShape shape = walk_shape(layer->problem(1));
  const auto width = static_cast<std::size_t>(shape.d_padded);
  std::vector<float> copy(width);
  std::vector<std::vector<float>> sums(static_cast<std::size_t>(threads), std::vector<float>(width + 1024));  // apart by pages
  std::atomic<int> done{0};
  time_calls(state, *layer, [&](const std::vector<float>& x, std::vector<float>& y) {
    std::copy(x.begin(), x.end(), copy.begin());
    done.store(0, std::memory_order_relaxed);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int thread = 0; thread < threads; ++thread) {
      for (index_t part = plan.parts * thread / threads; part < plan.parts * (thread + 1) / threads; ++part) {
        const HiddenRange units = part_range(plan, shape, part);
        for (const std::byte* matrix : {layer->up(), layer->down()}) {
          read_bytes(matrix + units.begin * layer->row_bytes(), units.size() * layer->row_bytes());
        }
      }
      std::vector<float>& mine = sums[static_cast<std::size_t>(thread)];
      std::copy(copy.begin(), copy.end(), mine.begin());
      if (done.fetch_add(1, std::memory_order_acq_rel) + 1 < threads) continue;
      for (std::size_t d = 0; d < y.size(); ++d) y[d] = sums.front()[d] + sums.back()[d];
    }
  });
}

#endif

const bool registered = [] {
  const auto add = [](const char* what, DType dtype, int threads, void (*run)(benchmark::State&, DType, int)) {
    const std::string name = "call/" + std::string(what) + "/768x3072/" + std::string(to_string(dtype)) + "/threads:" + std::to_string(threads);
    benchmark::RegisterBenchmark(name.c_str(), run, dtype, threads)->Unit(benchmark::kMicrosecond)->UseRealTime();
  };
  for (const DType dtype : {DType::bf16, DType::f32}) {
    for (const int threads : {1, 2}) {
      add("row_fused", dtype, threads, row_fused);
#if defined(__x86_64__)
      if (__builtin_cpu_supports("avx512f")) add("reads", dtype, threads, reads);
#endif
    }
#if defined(SIGNSPLIT_HAS_ONEDNN)
    add("onednn", dtype, 2, onednn);
#endif
  }
  return true;
}();

}  // namespace
}  // namespace signsplit
