// Whole calls beside their limit: calls that do nothing but what every such call must do. x is copied, the threads are
// forked, each reads its parts of both matrices with plain loads, tile by tile as row_fused does, writes a y of its own, the last to be done
// adds them, and they join. `reads` asks ahead as the kernels do, `plain_reads` does not; `four_streams` reads halves of whole
// matrices, as the read probe of `signsplit bench`. `products` runs the kernels on the same tiles and adds nothing to them (no activation,
// one y for a thread, no help at the end), `dots` and `adds` run one of the two kernels on both matrices: what lies between these and
// row_fused is the executor's, what lies between them and `reads` the kernels'. oneDNN beside them, where the build has it. Warm: a layer
// that stays in the last-level cache. Cold: in rotation over more than a gigabyte of layers. Several tokens: row_fused and the kernels only; the
// executor's part grows with them, because partial y do. `_for_fast_memory`: the kernels in the other style of requests, which row_fused finds
// and takes where it is the faster. `bare_dots` and `bare_adds`: 4 tokens, the loops of peak/token_blocks in place of the kernels.
//
//   signsplit_bench --benchmark_filter=^call/.*/2048x8192/f32 --benchmark_enable_random_interleaving=true --benchmark_repetitions=15
#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "cpu/isa.hpp"
#include "signsplit/aligned_buffer.hpp"
#include "signsplit/cpu.hpp"
#include "signsplit/synthetic.hpp"
#include "signsplit/walk.hpp"
#if defined(SIGNSPLIT_HAS_ONEDNN)
#include "cpu/baselines/onednn.hpp"
#endif

#if defined(__x86_64__)
#include <immintrin.h>

#include "token_blocks.hpp"
#endif

namespace signsplit {
namespace {

struct Calls {
  Problem problem;
  bool cold;
  int threads;
};

constexpr index_t kColdBytes = index_t{1100} << 20, kVendorBytes = index_t{500} << 20;  // a vendor's own copies come in turns with ours

/// Copies of one layer, made once; empty when there is no memory.
const std::vector<Weights>& layers_of(const Calls& calls) {
  static std::map<std::string, std::vector<Weights>> made;
  Problem problem = calls.problem;
  problem.batch = 1;  // the same layers for any number of tokens
  std::vector<Weights>& layers = made[describe(problem) + (calls.cold ? " cold" : " warm")];
  if (!layers.empty()) return layers;
  auto first = synthetic_weights(problem, 0.5, 1);
  if (!first) return layers;
  layers.push_back(std::move(first).value());
  while (calls.cold && static_cast<index_t>(layers.size()) * static_cast<index_t>(weight_bytes(problem)) < kColdBytes) {
    auto copy = layers.front().clone();
    if (!copy) break;
    layers.push_back(std::move(copy).value());
  }
  return layers;
}

std::size_t next_call = 0;  // of all benchmarks, so that each goes on where the one before has left the rotation

/// Calls run(n, x, y) over and over, n rising by 1.
template <class Run>
void time_calls(benchmark::State& state, const Calls& calls, Run&& run) {
  const std::vector<float> x = synthetic_input(calls.problem.batch, calls.problem.d_model, 2);
  std::vector<float> y(x.size());
  for (auto _ : state) {
    if (!run(next_call++, x, y)) state.SkipWithError("refused");
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(weight_bytes(calls.problem)));
}

void row_fused(benchmark::State& state, const Calls& calls) {
  const std::vector<Weights>& layers = layers_of(calls);
  if (layers.empty()) return state.SkipWithError("no layer");
  auto ffn = cpu::Ffn::create(layers.front(), default_plan(calls.problem, Strategy::row_fused), calls.problem.batch, {.threads = calls.threads, .isa = {}});
  if (!ffn) return state.SkipWithError(ffn.message().c_str());
  time_calls(state, calls, [&](std::size_t n, const std::vector<float>& x, std::vector<float>& y) {
    return ffn->rebind(layers[n % layers.size()]).ok() && ffn->run(x, y).ok();
  });
}

/// What thread `thread` of `threads` reads: parts [first, last).
struct Share {
  WalkShape shape;
  index_t first, last;
};
Share share_of(const Calls& calls, const Plan& plan, int thread) {
  const WalkShape shape = walk_shape(calls.problem);
  const index_t items = item_count(plan, shape, Phase::fused);
  return {shape, items * thread / calls.threads, items * (thread + 1) / calls.threads};
}

enum class Kernels { both, dots, adds };

/// Receives the walk of a part, and runs a kernel on each of its tiles.
template <Kernels kKernels, cpu::RequestStyle kStyle>
class ProductSink {
 public:
  ProductSink(const Weights& layer, const Calls& calls, index_t last_unit, const float* x, float* values)
      : layer_(layer), kernels_(cpu::kernels_for(*cpu::select_isa({}))), cold_(calls.cold), batch_(calls.problem.batch), last_unit_(last_unit), x_(x),
        y_(values), sums_(values + 3 * kApart), coefficients_(values + 4 * kApart) {}
  static constexpr index_t kApart = 16 * 1024;  ///< values; y has three times as many, sums and coefficients one time
  static constexpr index_t kValues = 5 * kApart, kMostTokens = 8;

  void begin_part(index_t, Phase) {}
  void certify(HiddenRange) {}
  void up_tile(HiddenRange hidden, KRange) { run(kKernels != Kernels::adds, rows(layer_.up(), hidden), rows(layer_.down(), hidden)); }
  void activate(HiddenRange) {}
  void push(HiddenRange, KRange) {}
  void down_tile(HiddenRange hidden) {
    const index_t end = std::min(hidden.end + hidden.size(), last_unit_);
    run(kKernels == Kernels::dots, rows(layer_.down(), hidden), rows(layer_.up(), {hidden.end, end}));
  }
  void correct(HiddenRange) {}
  void store_h(HiddenRange) {}
  void load_h(HiddenRange) {}
  void reduce(ColumnRange) {}

 private:
  [[nodiscard]] cpu::RowList rows(const std::byte* matrix, HiddenRange units) const {
    return {matrix, layer_.row_bytes(), layer_.row_bytes(), nullptr, units.begin, units.size()};
  }
  void run(bool dot, const cpu::RowList& list, const cpu::RowList& next) const {
    const index_t width = layer_.d_model(), asked = list.bytes * list.row_count, y_stride = batch_ > 1 ? width + kBetweenTokens : width;
    const auto type = static_cast<std::size_t>(layer_.dtype());
    if (dot) {
      kernels_.dot[type]({list, next, asked, x_, width, x_, batch_, width, true, true, nullptr, sums_, nullptr, nullptr, 0, 0, 0, false, nullptr,
                          cold_});
    } else {
      kernels_.add[type]({list, next, asked, coefficients_, y_, y_stride, batch_, width, nullptr, 0, width, cold_, kStyle});
    }
  }

  const Weights& layer_;
  const cpu::KernelTable& kernels_;
  static constexpr index_t kBetweenTokens = 128;  // or y of all tokens would lie in the same lines of the first-level cache
  bool cold_;
  index_t batch_, last_unit_;
  const float* x_;
  float *y_, *sums_, *coefficients_;
};

template <Kernels kKernels, cpu::RequestStyle kStyle = cpu::RequestStyle::slow_memory>
void products(benchmark::State& state, const Calls& calls) {
  using Sink = ProductSink<kKernels, kStyle>;
  const std::vector<Weights>& layers = layers_of(calls);
  if (layers.empty()) return state.SkipWithError("no layer");
  const Plan plan = default_plan(calls.problem, Strategy::row_fused);
  const index_t x_elems = calls.problem.batch * calls.problem.d_model;
  AlignedBuffer memory(static_cast<std::size_t>(calls.threads * Sink::kValues + x_elems) * sizeof(float));
  if (memory.data() == nullptr || calls.problem.d_model % kAccumulators != 0 || calls.problem.batch > Sink::kMostTokens) {
    return state.SkipWithError("no memory, columns to pad, or too many tokens");
  }
  auto* const values = reinterpret_cast<float*>(memory.data());
  float* const packed_x = values + calls.threads * Sink::kValues;  // in the order of tokens: any will do
  std::fill_n(values, calls.threads * Sink::kValues, 0.01f);      // coefficients; and y has to begin with something
  time_calls(state, calls, [&](std::size_t n, const std::vector<float>& x, std::vector<float>&) {
    std::copy(x.begin(), x.end(), packed_x);
    const Weights& layer = layers[n % layers.size()];
#pragma omp parallel for num_threads(calls.threads) schedule(static, 1)
    for (int thread = 0; thread < calls.threads; ++thread) {
      const Share share = share_of(calls, plan, thread);
      Sink sink(layer, calls, part_range(plan, share.shape, share.last - 1).end, packed_x, values + thread * Sink::kValues);
      for (index_t item = share.first; item < share.last; ++item) walk(plan, share.shape, Phase::fused, item, sink);
    }
    return true;
  });
}

#if defined(SIGNSPLIT_HAS_ONEDNN)
void onednn(benchmark::State& state, const Calls& calls) {
  const std::vector<Weights>& layers = layers_of(calls);
  if (layers.empty()) return state.SkipWithError("no layer");
  std::vector<baselines::OneDnnFfn> copies;
  do {
    auto copy = baselines::OneDnnFfn::create(layers.front(), 1, calls.threads);
    if (!copy) return state.SkipWithError(copy.message().c_str());
    copies.push_back(std::move(copy).value());
  } while (calls.cold && static_cast<index_t>(copies.size() * copies.front().weight_bytes()) < kVendorBytes);
  time_calls(state, calls, [&](std::size_t n, const std::vector<float>& x, std::vector<float>& y) {
    return copies[n % copies.size()].run(x, y).ok();
  });
}
#endif

#if defined(__x86_64__)

template <bool kAsksAhead>
__attribute__((noinline, target("avx512f"))) void read_stream(const std::byte* data, index_t bytes) {
  constexpr index_t ahead = 6 * 1024;
  __m512i a = _mm512_setzero_si512(), b = a;
  for (index_t i = 0; i < bytes; i += 128) {
    if constexpr (kAsksAhead) {
      __builtin_prefetch(data + i + ahead);
      __builtin_prefetch(data + i + ahead + 64);
    }
    a = _mm512_xor_si512(a, _mm512_load_si512(data + i));
    b = _mm512_xor_si512(b, _mm512_load_si512(data + i + 64));
  }
  asm volatile("" : : "v"(a), "v"(b));
}

__attribute__((noinline, target("avx512f"))) void read_four_streams(const std::byte* data, index_t bytes) {
  const index_t quarter = bytes / 4;  // a multiple of 64
  __m512i sum[4];
  for (__m512i& s : sum) s = _mm512_setzero_si512();
  for (index_t i = 0; i < quarter; i += 64) {
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s) sum[s] = _mm512_xor_si512(sum[s], _mm512_load_si512(data + s * quarter + i));
  }
  asm volatile("" : : "v"(sum[0]), "v"(sum[1]), "v"(sum[2]), "v"(sum[3]));
}

enum class Reads { tiles, plain_tiles, four_streams };

/// Receives the walk of a part, and loads what row_fused would.
template <Reads kReads>
struct ReadingSink {
  const Weights& layer;
  void read(const std::byte* matrix, HiddenRange units) const {
    read_stream<kReads == Reads::tiles>(matrix + units.begin * layer.row_bytes(), units.size() * layer.row_bytes());
  }
  void begin_part(index_t, Phase) {}
  void certify(HiddenRange) {}
  void up_tile(HiddenRange hidden, KRange) const { read(layer.up(), hidden); }
  void activate(HiddenRange) {}
  void push(HiddenRange, KRange) {}
  void down_tile(HiddenRange hidden) const { read(layer.down(), hidden); }
  void correct(HiddenRange) {}
  void store_h(HiddenRange) {}
  void load_h(HiddenRange) {}
  void reduce(ColumnRange) {}
};

/// What thread `thread` of a call has to read, of both matrices.
template <Reads kReads>
void read_share(const Calls& calls, const Weights& layer, const Plan& plan, int thread) {
  const auto [shape, first, last] = share_of(calls, plan, thread);
  if constexpr (kReads == Reads::four_streams) {
    const index_t begin = part_range(plan, shape, first).begin, end = part_range(plan, shape, last - 1).end;
    for (const std::byte* matrix : {layer.up(), layer.down()}) {
      read_four_streams(matrix + begin * layer.row_bytes(), (end - begin) * layer.row_bytes());
    }
  } else {
    ReadingSink<kReads> sink{layer};
    for (index_t item = first; item < last; ++item) walk(plan, shape, Phase::fused, item, sink);
  }
}

template <Reads kReads>
void reads(benchmark::State& state, const Calls& calls) {
  const std::vector<Weights>& layers = layers_of(calls);
  if (layers.empty()) return state.SkipWithError("no layer");
  const Plan plan = default_plan(calls.problem, Strategy::row_fused);
  const auto width = static_cast<std::size_t>(calls.problem.d_model);
  std::vector<float> copy(width);
  std::vector<std::vector<float>> sums(static_cast<std::size_t>(calls.threads), std::vector<float>(width + 1024));  // a page apart
  std::atomic<int> done{0};
  time_calls(state, calls, [&](std::size_t n, const std::vector<float>& x, std::vector<float>& y) {
    const Weights& layer = layers[n % layers.size()];
    std::copy(x.begin(), x.end(), copy.begin());
    done.store(0, std::memory_order_relaxed);
#pragma omp parallel for num_threads(calls.threads) schedule(static, 1)
    for (int thread = 0; thread < calls.threads; ++thread) {
      read_share<kReads>(calls, layer, plan, thread);
      std::copy(copy.begin(), copy.end(), sums[static_cast<std::size_t>(thread)].begin());
      if (done.fetch_add(1, std::memory_order_acq_rel) + 1 < calls.threads) continue;
      for (std::size_t d = 0; d < width; ++d) y[d] = sums.front()[d] + sums.back()[d];
    }
    return true;
  });
}

/// 4 tokens of rows of 2048 weights: one of the loops of peak/token_blocks on both matrices, as `dots` and `adds` run the kernels. The rates of
/// peak/token_blocks are of threads that wait for nobody and of another process; these are in turns with the calls.
template <bool kDot>
void bare_loops(benchmark::State& state, const Calls& calls) {
  const std::vector<Weights>& layers = layers_of(calls);
  if (layers.empty()) return state.SkipWithError("no layer");
  const Plan plan = default_plan(calls.problem, Strategy::row_fused);
  const index_t width = calls.problem.d_model, rows_at_once = kDot ? 1 : 2, row_bytes = layers.front().row_bytes();
  const Shape shape{width, rows_at_once, width, (kDot ? 10 : 16) * 1024};
  constexpr index_t values = 32 * 1024;  // of a thread: y, and what dot leaves or add multiplies by
  AlignedBuffer memory(static_cast<std::size_t>((2 * calls.threads + 1) * values) * sizeof(float));
  auto* const floats = reinterpret_cast<float*>(memory.data());
  if (floats == nullptr) return state.SkipWithError("no memory");
  std::fill_n(floats, (2 * calls.threads + 1) * values, 0.01f);
  time_calls(state, calls, [&](std::size_t n, const std::vector<float>& x, std::vector<float>&) {
    std::copy(x.begin(), x.end(), floats);
    const Weights& layer = layers[n % layers.size()];
#pragma omp parallel for num_threads(calls.threads) schedule(static, 1)
    for (int thread = 0; thread < calls.threads; ++thread) {
      const Share share = share_of(calls, plan, thread);
      const index_t begin = part_range(plan, share.shape, share.first).begin, end = part_range(plan, share.shape, share.last - 1).end;
      float* const own = floats + (2 * thread + 1) * values;
      for (const std::byte* matrix : {layer.up(), layer.down()}) {
        Requests<1, kDot> requests{matrix + begin * row_bytes + shape.ahead};
        for (index_t row = begin; row < end; row += rows_at_once) {
          const Memory at{matrix + row * row_bytes, kDot ? floats : own, own + values};
          if constexpr (kDot) {
            dot_group<1, 4, 4>(at, shape, requests);
          } else {
            add_group<2, 4>(at, shape, requests);
          }
        }
      }
    }
    return true;
  });
}

#endif

void add(const char* what, const Calls& calls, void (*run)(benchmark::State&, const Calls&)) {
  const Problem& p = calls.problem;
  const std::string name = "call/" + std::string(what) + "/" + std::to_string(p.d_model) + "x" + std::to_string(p.d_ff) + "/" +
                           std::string(to_string(p.dtype)) + (p.batch > 1 ? "/batch:" + std::to_string(p.batch) : "") + (calls.cold ? "/cold" : "/warm") + "/threads:" + std::to_string(calls.threads);
  benchmark::RegisterBenchmark(name.c_str(), run, calls)->Unit(benchmark::kMicrosecond)->UseRealTime();
}

const bool registered = [] {
  std::vector<Calls> all;
  for (const DType dtype : {DType::bf16, DType::f32}) {
    for (const int threads : {1, 2}) all.push_back({{.d_model = 768, .d_ff = 3072, .dtype = dtype}, false, threads});
    all.push_back({{.d_model = 2048, .d_ff = 8192, .dtype = dtype}, true, 2});
  }
  all.push_back({{.d_model = 4096, .d_ff = 16384, .dtype = DType::bf16}, true, 2});
  for (const index_t batch : {4, 8}) {
    for (const index_t width : {2048, 4096}) all.push_back({{.d_model = width, .d_ff = 4 * width, .batch = batch, .dtype = DType::bf16}, true, 2});
  }
  for (const Calls& calls : all) {
    add("row_fused", calls, row_fused);
    add("products", calls, products<Kernels::both>);
    add("dots", calls, products<Kernels::dots>);
    add("adds", calls, products<Kernels::adds>);
    if (calls.problem.batch > 1) {
      add("products_for_fast_memory", calls, products<Kernels::both, cpu::RequestStyle::fast_memory>);
      add("adds_for_fast_memory", calls, products<Kernels::adds, cpu::RequestStyle::fast_memory>);
#if defined(__x86_64__)
      if (calls.problem.batch != 4 || calls.problem.d_model != 2048 || !__builtin_cpu_supports("avx512bw")) continue;
      add("bare_dots", calls, bare_loops<true>);
      add("bare_adds", calls, bare_loops<false>);
#endif
      continue;
    }
#if defined(SIGNSPLIT_HAS_ONEDNN)
    if (calls.threads == 2) add("onednn", calls, onednn);
#endif
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx512f")) continue;
    add("reads", calls, reads<Reads::tiles>);
    add("plain_reads", calls, reads<Reads::plain_tiles>);
    add("four_streams", calls, reads<Reads::four_streams>);
#endif
  }
  return true;
}();

}  // namespace
}  // namespace signsplit
