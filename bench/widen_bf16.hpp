// bf16 weights as f32 vectors, for the probes that stand beside the kernels: the operation that the AVX-512 kernels take.
#pragma once

#include <immintrin.h>

#include <cstddef>

namespace signsplit {

__attribute__((target("avx512f,avx512bw"))) inline __m512 widen_bf16(const std::byte* sixteen) {
  const __m512i upper_halves = _mm512_set_epi32(0xf000f, 0xe000e, 0xd000d, 0xc000c, 0xb000b, 0xa000a, 0x90009, 0x80008, 0x70007, 0x60006,
                                                0x50005, 0x40004, 0x30003, 0x20002, 0x10001, 0);
  const __m256i half = _mm256_load_si256(reinterpret_cast<const __m256i*>(sixteen));
  return _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, upper_halves, _mm512_castsi256_si512(half)));
}

}  // namespace signsplit
