#include "tools/read_probe.hpp"

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace signsplit::tools {
namespace {

constexpr std::size_t kLine = 64;  // bytes

using ReadLines = void (*)(const std::byte* data, std::size_t lines);

/// What a compiler makes of it; the empty asm keeps the loads.
void read_portable(const std::byte* data, std::size_t lines) {
  std::uint64_t sum[kLine / sizeof(std::uint64_t)] = {};
  for (std::size_t i = 0; i < lines; ++i) {
    std::uint64_t word[kLine / sizeof(std::uint64_t)];
    std::memcpy(word, data + i * kLine, kLine);
    for (std::size_t w = 0; w < kLine / sizeof(std::uint64_t); ++w) sum[w] ^= word[w];
  }
  asm volatile("" : : "r"(&sum[0]) : "memory");
}

#if defined(__x86_64__)
// Four streams, each a quarter of the lines: on the machines that we tried, a core reads up to a third more from DRAM with
// four than with one, and software prefetch adds nothing.
__attribute__((target("avx2"))) void read_avx2(const std::byte* data, std::size_t lines) {
  const auto* p = reinterpret_cast<const __m256i*>(data);
  const std::size_t vectors = 2 * lines, quarter = vectors / 4;
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  for (std::size_t i = 0; i < quarter; ++i) {
    a = _mm256_xor_si256(a, _mm256_load_si256(p + i));
    b = _mm256_xor_si256(b, _mm256_load_si256(p + i + quarter));
    c = _mm256_xor_si256(c, _mm256_load_si256(p + i + 2 * quarter));
    d = _mm256_xor_si256(d, _mm256_load_si256(p + i + 3 * quarter));
  }
  for (std::size_t i = 4 * quarter; i < vectors; ++i) a = _mm256_xor_si256(a, _mm256_load_si256(p + i));
  asm volatile("" : : "x"(a), "x"(b), "x"(c), "x"(d));
}

__attribute__((target("avx512f"))) void read_avx512(const std::byte* data, std::size_t lines) {
  const auto* p = reinterpret_cast<const __m512i*>(data);
  const std::size_t quarter = lines / 4;
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  for (std::size_t i = 0; i < quarter; ++i) {
    a = _mm512_xor_si512(a, _mm512_load_si512(p + i));
    b = _mm512_xor_si512(b, _mm512_load_si512(p + i + quarter));
    c = _mm512_xor_si512(c, _mm512_load_si512(p + i + 2 * quarter));
    d = _mm512_xor_si512(d, _mm512_load_si512(p + i + 3 * quarter));
  }
  for (std::size_t i = 4 * quarter; i < lines; ++i) a = _mm512_xor_si512(a, _mm512_load_si512(p + i));
  asm volatile("" : : "v"(a), "v"(b), "v"(c), "v"(d));
}
#endif

ReadLines widest_reader() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return read_avx512;
  if (__builtin_cpu_supports("avx2")) return read_avx2;
#endif
  return read_portable;
}

}  // namespace

void read_all(std::span<const std::span<const std::byte>> ranges, int threads) {
  static const ReadLines read = widest_reader();
  const auto workers = static_cast<std::size_t>(threads > 0 ? threads : 1);
#pragma omp parallel for num_threads(static_cast<int>(workers)) schedule(static, 1)
  for (std::size_t worker = 0; worker < workers; ++worker) {
    for (const auto range : ranges) {
      const std::size_t lines = range.size() / kLine, begin = lines * worker / workers, end = lines * (worker + 1) / workers;
      read(range.data() + begin * kLine, end - begin);
    }
  }
}

}  // namespace signsplit::tools
