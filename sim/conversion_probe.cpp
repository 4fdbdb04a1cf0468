// How fast weights of a type become f32, and bytes multiply, from the first-level cache. The loops carry their instruction set as an
// attribute of the function, as those of probes.cpp.
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

#include "probes.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#define SIGNSPLIT_PROBE_X86 1
#endif

namespace signsplit::sim {
namespace {

constexpr std::size_t kElements = 4096;  ///< at most 8 KiB

std::atomic<std::uint32_t> sink{0};

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// Converts all elements once and adds them up; the sum keeps the loop from being dropped.
using Convert = std::uint32_t (*)(const std::byte* data);

float f16_to_f32(std::uint16_t bits) {  // normal numbers and zero: the probe's data
  const std::uint32_t exponent = (bits >> 10) & 31u, rest = static_cast<std::uint32_t>(bits & 0x3ffu) << 13;
  const std::uint32_t magnitude = exponent == 0 ? 0 : ((exponent + 112) << 23) | rest;
  return std::bit_cast<float>((static_cast<std::uint32_t>(bits & 0x8000u) << 16) | magnitude);
}

template <class Element, class ToFloat>
std::uint32_t convert_scalar(const std::byte* data, ToFloat to_float) {
  float sum[4] = {};
  for (std::size_t i = 0; i < kElements; ++i) {
    Element element;
    std::memcpy(&element, data + i * sizeof element, sizeof element);
    sum[i % 4] += to_float(element);
  }
  return std::bit_cast<std::uint32_t>(sum[0] + sum[1] + sum[2] + sum[3]);
}

std::uint32_t bf16_scalar(const std::byte* data) {
  return convert_scalar<std::uint16_t>(data, [](std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); });
}
std::uint32_t f16_scalar(const std::byte* data) { return convert_scalar<std::uint16_t>(data, f16_to_f32); }
std::uint32_t int8_scalar(const std::byte* data) {
  return convert_scalar<std::int8_t>(data, [](std::int8_t value) { return static_cast<float>(value); });
}
std::uint32_t dot_scalar(const std::byte* data) {
  std::int32_t sum[4] = {};
  for (std::size_t i = 0; i < kElements; ++i) sum[i % 4] += static_cast<std::int8_t>(data[i]) * static_cast<std::int8_t>(data[i ^ 64]);
  return static_cast<std::uint32_t>(sum[0] + sum[1] + sum[2] + sum[3]);
}

#if defined(SIGNSPLIT_PROBE_X86)
#define SIGNSPLIT_AVX2 __attribute__((target("avx2,fma,f16c")))
#define SIGNSPLIT_AVX512 __attribute__((target("avx512f,avx512bw")))

SIGNSPLIT_AVX2 std::uint32_t first_lane(__m256 sum) { return static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_castps_si128(_mm256_castps256_ps128(sum)))); }

// Four sums: an addition takes several cycles, and two may begin in each.
SIGNSPLIT_AVX2 std::uint32_t bf16_avx2(const std::byte* data) {
  __m256 sum[4] = {};
  for (std::size_t i = 0; i < kElements; i += 32) {
    for (std::size_t part = 0; part < 4; ++part) {
      const __m128i raw = _mm_load_si128(reinterpret_cast<const __m128i*>(data + 2 * (i + 8 * part)));
      sum[part] = _mm256_add_ps(sum[part], _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(raw), 16)));
    }
  }
  return first_lane(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
}
SIGNSPLIT_AVX2 std::uint32_t f16_avx2(const std::byte* data) {
  __m256 sum[4] = {};
  for (std::size_t i = 0; i < kElements; i += 32) {
    for (std::size_t part = 0; part < 4; ++part) {
      sum[part] = _mm256_add_ps(sum[part], _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(data + 2 * (i + 8 * part)))));
    }
  }
  return first_lane(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
}
SIGNSPLIT_AVX2 std::uint32_t int8_avx2(const std::byte* data) {
  __m256 sum[4] = {};
  for (std::size_t i = 0; i < kElements; i += 32) {
    for (std::size_t part = 0; part < 4; ++part) {
      const __m128i raw = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(data + i + 8 * part));
      sum[part] = _mm256_add_ps(sum[part], _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(raw)));
    }
  }
  return first_lane(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
}
SIGNSPLIT_AVX2 std::uint32_t dot_avx2(const std::byte* data) {
  __m256i sum[2] = {};
  const __m256i ones = _mm256_set1_epi16(1), x = _mm256_set1_epi8(3);
  for (std::size_t i = 0; i < kElements; i += 64) {
    for (std::size_t part = 0; part < 2; ++part) {
      const __m256i pairs = _mm256_maddubs_epi16(x, _mm256_load_si256(reinterpret_cast<const __m256i*>(data + i + 32 * part)));
      sum[part] = _mm256_add_epi32(sum[part], _mm256_madd_epi16(pairs, ones));
    }
  }
  return static_cast<std::uint32_t>(_mm256_extract_epi32(_mm256_add_epi32(sum[0], sum[1]), 0));
}

SIGNSPLIT_AVX512 std::uint32_t first_lane(__m512 sum) { return static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_castps_si128(_mm512_castps512_ps128(sum)))); }

SIGNSPLIT_AVX512 std::uint32_t bf16_avx512(const std::byte* data) {
  __m512 sum[4] = {};
  for (std::size_t i = 0; i < kElements; i += 64) {
    for (std::size_t part = 0; part < 4; ++part) {
      const __m256i raw = _mm256_load_si256(reinterpret_cast<const __m256i*>(data + 2 * (i + 16 * part)));
      sum[part] = _mm512_add_ps(sum[part], _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16)));
    }
  }
  return first_lane(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}
SIGNSPLIT_AVX512 std::uint32_t f16_avx512(const std::byte* data) {
  __m512 sum[4] = {};
  for (std::size_t i = 0; i < kElements; i += 64) {
    for (std::size_t part = 0; part < 4; ++part) {
      sum[part] = _mm512_add_ps(sum[part], _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(data + 2 * (i + 16 * part)))));
    }
  }
  return first_lane(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}
SIGNSPLIT_AVX512 std::uint32_t int8_avx512(const std::byte* data) {
  __m512 sum[4] = {};
  for (std::size_t i = 0; i < kElements; i += 64) {
    for (std::size_t part = 0; part < 4; ++part) {
      const __m128i raw = _mm_load_si128(reinterpret_cast<const __m128i*>(data + i + 16 * part));
      sum[part] = _mm512_add_ps(sum[part], _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(raw)));
    }
  }
  return first_lane(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}
SIGNSPLIT_AVX512 std::uint32_t dot_avx512(const std::byte* data) {
  __m512i sum[2] = {};
  const __m512i ones = _mm512_set1_epi16(1), x = _mm512_set1_epi8(3);
  for (std::size_t i = 0; i < kElements; i += 128) {
    for (std::size_t part = 0; part < 2; ++part) {
      const __m512i pairs = _mm512_maddubs_epi16(x, _mm512_load_si512(reinterpret_cast<const __m512i*>(data + i + 64 * part)));
      sum[part] = _mm512_add_epi32(sum[part], _mm512_madd_epi16(pairs, ones));
    }
  }
  return static_cast<std::uint32_t>(_mm512_cvtsi512_si32(_mm512_add_epi32(sum[0], sum[1])));
}
#endif

/// The loop of an instruction set: bf16, f16, int8, dot.
Convert loop_of(const std::string& isa, const std::string& name) {
  const std::size_t which = name == "convert_bf16" ? 0 : name == "convert_f16" ? 1 : name == "convert_int8" ? 2 : 3;
#if defined(SIGNSPLIT_PROBE_X86)
  constexpr Convert kAvx512[] = {bf16_avx512, f16_avx512, int8_avx512, dot_avx512}, kAvx2[] = {bf16_avx2, f16_avx2, int8_avx2, dot_avx2};
  if (isa == "avx512") return kAvx512[which];
  if (isa == "avx2") return kAvx2[which];
#endif
  (void)isa;
  constexpr Convert kScalar[] = {bf16_scalar, f16_scalar, int8_scalar, dot_scalar};
  return kScalar[which];
}

}  // namespace

Sampled probe_conversion(const std::string& isa, const std::string& name, int repetitions) {
  AlignedBuffer data(2 * kElements);
  if (data.data() == nullptr) return {};
  for (std::size_t i = 0; i < data.size(); ++i) data.data()[i] = static_cast<std::byte>(i % 2 == 0 ? i / 2 % 251 : 0x30 + i / 512);  // normal in every type
  const Convert convert = loop_of(isa, name);
  constexpr int kPasses = 64;
  std::vector<double> samples;
  for (int i = 0; i < repetitions + 1; ++i) {
    const double start = now_s();
    for (int pass = 0; pass < kPasses; ++pass) sink.fetch_add(convert(data.data()), std::memory_order_relaxed);
    if (i > 0) samples.push_back(kPasses * static_cast<double>(kElements) / std::max(now_s() - start, 1e-9));
  }
  return summarise_samples(std::move(samples));
}

}  // namespace signsplit::sim
