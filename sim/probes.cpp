#include "probes.hpp"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>

#include "core/quantile.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#define SIGNSPLIT_PROBE_X86 1
#endif

namespace signsplit::sim {
namespace {

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Results end here, so that no loop can be left out by the compiler.
std::atomic<std::uint64_t> sink{0};

// The loops below carry their instruction set as an attribute of the function: this file is compiled for the baseline, so
// that nothing else in it can slip into code that an older processor would run.

std::uint64_t read_scalar(const std::byte* data, std::size_t bytes) {
  std::uint64_t sum[8] = {};
  for (std::size_t i = 0; i + 64 <= bytes; i += 64) {
    std::uint64_t words[8];
    std::memcpy(words, data + i, 64);
    for (int w = 0; w < 8; ++w) sum[w] |= words[w];
  }
  return sum[0] | sum[1] | sum[2] | sum[3] | sum[4] | sum[5] | sum[6] | sum[7];
}

double fma_scalar(std::int64_t rounds) {
  float acc[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  for (std::int64_t i = 0; i < rounds; ++i) {
    for (float& a : acc) a = std::fma(a, 0.999f, 0.001f);
  }
  for (const float a : acc) sink += static_cast<std::uint64_t>(a);
  return static_cast<double>(rounds) * 8 * 2;
}

#if defined(SIGNSPLIT_PROBE_X86)
// Four streams, each a quarter of the bytes, as the executor's own comparison reads: where main memory is slow a core gets a tenth more
// with four than with one, and so do the kernels, which ask for lines ahead.
__attribute__((target("avx2"))) std::uint64_t read_avx2(const std::byte* data, std::size_t bytes) {
  const std::size_t quarter = bytes / 4;
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a, e = a, f = a, g = a, h = a;
  for (std::size_t i = 0; i + 64 <= quarter; i += 64) {
    const auto* p = reinterpret_cast<const __m256i*>(data + i);
    const auto* q = reinterpret_cast<const __m256i*>(data + i + quarter);
    const auto* r = reinterpret_cast<const __m256i*>(data + i + 2 * quarter);
    const auto* s = reinterpret_cast<const __m256i*>(data + i + 3 * quarter);
    a = _mm256_or_si256(a, _mm256_load_si256(p));
    b = _mm256_or_si256(b, _mm256_load_si256(p + 1));
    c = _mm256_or_si256(c, _mm256_load_si256(q));
    d = _mm256_or_si256(d, _mm256_load_si256(q + 1));
    e = _mm256_or_si256(e, _mm256_load_si256(r));
    f = _mm256_or_si256(f, _mm256_load_si256(r + 1));
    g = _mm256_or_si256(g, _mm256_load_si256(s));
    h = _mm256_or_si256(h, _mm256_load_si256(s + 1));
  }
  a = _mm256_or_si256(_mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d)),
                      _mm256_or_si256(_mm256_or_si256(e, f), _mm256_or_si256(g, h)));
  alignas(32) std::uint64_t words[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(words), a);
  return words[0] | words[1] | words[2] | words[3];
}

__attribute__((target("avx512f"))) std::uint64_t read_avx512(const std::byte* data, std::size_t bytes) {
  const std::size_t quarter = bytes / 4;
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a, e = a, f = a, g = a, h = a;
  for (std::size_t i = 0; i + 128 <= quarter; i += 128) {
    const std::byte* p = data + i;
    a = _mm512_or_si512(a, _mm512_load_si512(p));
    b = _mm512_or_si512(b, _mm512_load_si512(p + 64));
    c = _mm512_or_si512(c, _mm512_load_si512(p + quarter));
    d = _mm512_or_si512(d, _mm512_load_si512(p + quarter + 64));
    e = _mm512_or_si512(e, _mm512_load_si512(p + 2 * quarter));
    f = _mm512_or_si512(f, _mm512_load_si512(p + 2 * quarter + 64));
    g = _mm512_or_si512(g, _mm512_load_si512(p + 3 * quarter));
    h = _mm512_or_si512(h, _mm512_load_si512(p + 3 * quarter + 64));
  }
  a = _mm512_or_si512(_mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d)),
                      _mm512_or_si512(_mm512_or_si512(e, f), _mm512_or_si512(g, h)));
  alignas(64) std::uint64_t words[8];
  _mm512_store_si512(words, a);
  return words[0] | words[1] | words[2] | words[3] | words[4] | words[5] | words[6] | words[7];
}

// Twelve accumulators: more than two FMA units with four or five cycles of latency can have in flight.
__attribute__((target("avx2,fma"))) double fma_avx2(std::int64_t rounds) {
  __m256 acc[12];
  for (int i = 0; i < 12; ++i) acc[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 m = _mm256_set1_ps(0.999f), c = _mm256_set1_ps(0.001f);
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int a = 0; a < 12; ++a) acc[a] = _mm256_fmadd_ps(acc[a], m, c);
  }
  for (int i = 1; i < 12; ++i) acc[0] = _mm256_add_ps(acc[0], acc[i]);
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, acc[0]);
  sink += static_cast<std::uint64_t>(lanes[0] + lanes[7]);
  return static_cast<double>(rounds) * 12 * 8 * 2;
}

__attribute__((target("avx512f"))) double fma_avx512(std::int64_t rounds) {
  __m512 acc[12];
  for (int i = 0; i < 12; ++i) acc[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 m = _mm512_set1_ps(0.999f), c = _mm512_set1_ps(0.001f);
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int a = 0; a < 12; ++a) acc[a] = _mm512_fmadd_ps(acc[a], m, c);
  }
  for (int i = 1; i < 12; ++i) acc[0] = _mm512_add_ps(acc[0], acc[i]);
  alignas(64) float lanes[16];
  _mm512_store_ps(lanes, acc[0]);
  sink += static_cast<std::uint64_t>(lanes[0] + lanes[15]);
  return static_cast<double>(rounds) * 12 * 16 * 2;
}
#endif

using ReadLoop = std::uint64_t (*)(const std::byte*, std::size_t);

ReadLoop fastest_read_loop() {
#if defined(SIGNSPLIT_PROBE_X86)
  if (__builtin_cpu_supports("avx512f")) return read_avx512;
  if (__builtin_cpu_supports("avx2")) return read_avx2;
#endif
  return read_scalar;
}

double run_fma(const std::string& isa, std::int64_t rounds) {
#if defined(SIGNSPLIT_PROBE_X86)
  if (isa == "avx512") return fma_avx512(rounds);
  if (isa == "avx2") return fma_avx2(rounds);
#endif
  (void)isa;
  return fma_scalar(rounds);
}

/// Seconds that all threads together need for `passes` passes, each over its share.
double time_passes(const std::byte* data, std::size_t share_bytes, std::int64_t passes, int threads, ReadLoop read) {
  double start = 0, end = 0;
#pragma omp parallel num_threads(threads)
  {
    const std::byte* mine = data + static_cast<std::size_t>(omp_get_thread_num()) * share_bytes;
    std::uint64_t bits = 0;
#pragma omp barrier
#pragma omp master
    start = now_s();
    for (std::int64_t pass = 0; pass < passes; ++pass) {
      bits |= read(mine, share_bytes);
      std::atomic_signal_fence(std::memory_order_seq_cst);  // each pass reads anew
    }
    sink += bits;
#pragma omp barrier
#pragma omp master
    end = now_s();
  }
  return std::max(end - start, 1e-9);
}

/// A working set while it is sampled: some passes over the share of each thread make a sample, or, of a set whose pass takes long, a
/// slice of one does; by the time the first slice comes round again the others have pushed it out of every cache.
struct Share {
  std::size_t bytes = 0;  ///< of one thread
  std::int64_t passes = 1;
  std::size_t slices = 1, next_slice = 0;
  std::size_t in_a_row = 2;  ///< samples before another working set takes its turn
  std::vector<double> samples;
};

// A call of a small layer takes tens of microseconds, and is known by its median: so are the samples, and their number.
constexpr double kSampleSeconds = 3e-5, kLongestSampleSeconds = 1e-3;
constexpr double kSamplesInARow = 8, kFewestInARow = 3, kRowSeconds = 4e-3;

/// A guess of 5 GB/s per thread keeps the first passes short; their time sets passes and slices.
Share prepare(const std::byte* data, double working_set, int threads, ReadLoop read) {
  Share share;
  share.bytes = static_cast<std::size_t>(working_set / threads) / 512 * 512;
  const double bytes = static_cast<double>(share.bytes) * threads;
  const auto first = std::max<std::int64_t>(1, static_cast<std::int64_t>(5e9 * threads * 1e-3 / bytes));
  const double pass = time_passes(data, share.bytes, first, threads, read) / static_cast<double>(first);
  share.passes = std::clamp<std::int64_t>(static_cast<std::int64_t>(kSampleSeconds / pass), 1, 1 << 24);
  share.slices = static_cast<std::size_t>(std::clamp(pass / kLongestSampleSeconds, 1.0, 8.0));
  if (share.slices == 1) share.in_a_row = static_cast<std::size_t>(std::clamp(kRowSeconds / pass, kFewestInARow, kSamplesInARow));
  return share;
}

/// Bytes per second of the next sample.
double sample_once(Share& share, const std::byte* data, int threads, ReadLoop read) {
  const std::size_t bytes = share.bytes / share.slices / 512 * 512;
  const std::byte* from = data + bytes * static_cast<std::size_t>(threads) * share.next_slice;
  share.next_slice = (share.next_slice + 1) % share.slices;
  return static_cast<double>(bytes) * threads * static_cast<double>(share.passes) / time_passes(from, bytes, share.passes, threads, read);
}

/// Every thread writes the share it will read, so that pages lie near it. Never zeros.
void fill(AlignedBuffer& buffer, int threads) {
  const std::size_t share = buffer.size() / static_cast<std::size_t>(threads);
#pragma omp parallel num_threads(threads)
  {
    std::byte* mine = buffer.data() + static_cast<std::size_t>(omp_get_thread_num()) * share;
    std::uint64_t bits = 0x9e3779b97f4a7c15u;
    for (std::size_t i = 0; i + 8 <= share; i += 8) {
      bits ^= bits << 13, bits ^= bits >> 7, bits ^= bits << 17;
      std::memcpy(mine + i, &bits, 8);
    }
  }
}

}  // namespace

Sampled summarise_samples(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  Sampled result;
  result.median = quantile(samples, 0.5);
  // For normal data σ = IQR / 1.349, and a median of n has the standard error 1.253 σ / √n.
  const double sigma = (quantile(samples, 0.75) - quantile(samples, 0.25)) / 1.349;
  result.ci90 = 1.645 * 1.253 * sigma / std::sqrt(static_cast<double>(samples.size()));
  result.cv = result.median > 0.0 ? sigma / result.median : 0.0;
  return result;
}

int probe_threads() { return std::max(1, omp_get_num_procs()); }

std::vector<std::string> probe_isas() {
  std::vector<std::string> isas{"scalar"};
#if defined(SIGNSPLIT_PROBE_X86)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) isas.emplace_back("avx2");
  if (isas.size() == 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    isas.emplace_back("avx512");
  }
#endif
  return isas;
}

double available_memory_bytes() {
  std::ifstream stream("/proc/meminfo");
  for (std::string key; stream >> key;) {
    double kibibytes = 0;
    if (key == "MemAvailable:" && stream >> kibibytes) return kibibytes * 1024.0;
    stream.ignore(256, '\n');
  }
  return 0.0;
}

double largest_working_set(const Machine& machine) {
  const double outermost = machine.levels.empty() ? 0.0 : machine.levels.back().capacity_bytes.value;
  const double largest = std::clamp(4.0 * outermost, 256.0 * 1048576.0, 1024.0 * 1048576.0), memory = available_memory_bytes();
  return std::floor((memory > 0.0 ? std::min(largest, memory / 3.0) : largest) / 4096.0) * 4096.0;
}

Result<ReadProbe> ReadProbe::make(double largest_bytes, int threads) {
  if (!(largest_bytes >= 512.0) || threads < 1) return invalid_argument("read bandwidth: needs a working set and a thread");
  ReadProbe probe;
  probe.memory_ = AlignedBuffer(static_cast<std::size_t>(largest_bytes));
  probe.threads_ = threads;
  if (probe.memory_.data() == nullptr) return io_error("read bandwidth: no memory for " + std::to_string(largest_bytes) + " bytes");
  fill(probe.memory_, threads);
  return probe;
}

std::vector<BandwidthSample> ReadProbe::sample(const std::vector<double>& working_sets, int repetitions) const {
  const ReadLoop read = fastest_read_loop();
  std::vector<Share> shares;
  for (const double working_set : working_sets) {
    const double fits = std::min(working_set, static_cast<double>(memory_.size()));
    if (fits >= 512.0 * threads_) shares.push_back(prepare(memory_.data(), fits, threads_, read));
  }
  // All of them in turns: what a neighbour does for a tenth of a second then disturbs some samples of each, which a median forgets,
  // and not all samples of one.
  for (int i = 0; i < repetitions; ++i) {
    for (Share& share : shares) {
      if (share.slices == 1) time_passes(memory_.data(), share.bytes, 2, threads_, read);  // into the caches
      for (std::size_t k = 0; k < share.in_a_row; ++k) share.samples.push_back(sample_once(share, memory_.data(), threads_, read));
    }
  }
  std::vector<BandwidthSample> samples;
  for (Share& share : shares) {
    samples.push_back({static_cast<double>(share.bytes) * threads_, summarise_samples(std::move(share.samples))});
  }
  return samples;
}

double ReadProbe::next_slice(double bytes) {
  const auto threads = static_cast<std::size_t>(threads_);
  const std::size_t share = std::min(static_cast<std::size_t>(bytes), memory_.size()) / threads / 512 * 512, all = share * threads;
  if (next_ + all > memory_.size()) next_ = 0;
  const double seconds = time_passes(memory_.data() + next_, share, 1, threads_, fastest_read_loop());
  next_ += all;
  return static_cast<double>(all) / seconds;
}

Sampled probe_barrier(int threads, int repetitions) {
  constexpr int kBarriers = 200;
  std::vector<double> samples;
  for (int i = 0; i < repetitions + 1; ++i) {
    double seconds = 0;
#pragma omp parallel num_threads(threads)
    {
#pragma omp barrier
      const double start = now_s();
      for (int b = 0; b < kBarriers; ++b) {
#pragma omp barrier
      }
#pragma omp master
      seconds = now_s() - start;
    }
    if (i > 0) samples.push_back(seconds / kBarriers);
  }
  return summarise_samples(std::move(samples));
}

Sampled probe_fork_join(int threads, int repetitions, int regions) {
  std::vector<double> samples;
  for (int i = 0; i < repetitions + 1; ++i) {
    const double start = now_s();
    for (int r = 0; r < regions; ++r) {
#pragma omp parallel num_threads(threads)
      { sink.fetch_or(1, std::memory_order_relaxed); }
    }
    if (i > 0) samples.push_back((now_s() - start) / regions);
  }
  return summarise_samples(std::move(samples));
}

Sampled probe_fma(const std::string& isa, int repetitions) {
  const std::int64_t rounds = isa == "scalar" ? 50'000 : 500'000;
  run_fma(isa, rounds);
  std::vector<double> samples;
  for (int i = 0; i < repetitions; ++i) {
    const double start = now_s();
    const double operations = run_fma(isa, rounds);
    samples.push_back(operations / std::max(now_s() - start, 1e-9));
  }
  return summarise_samples(std::move(samples));
}

}  // namespace signsplit::sim
