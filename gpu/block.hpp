// The block abstraction: what a kernel body may ask of the machine it runs on.
//
// A body is the program of one warp, written against a Block type: on a device DeviceBlock (device_block.cuh), in the
// tests an emulation in plain C++ that runs warps and lanes in shuffled order, lands copies as late as the rules allow,
// and refuses reads of memory that nothing wrote or that is written without synchronization. A Block has
//
//   cta(), ctas(), warp()             which warp this is; the warp after the consumers issues the copies
//   lanes(f)                          f(lane) for 32 lanes; what they wrote is then seen by the whole warp
//   PerLane<T>                        a value of each lane, kept from one lanes() to the next: p[lane]
//   shared()                          the block's shared memory
//   load(p), store(p, v)              every access to shared or device memory, inside lanes()
//   atomic_add(p, v)                  of 64-bit integers in shared memory, inside lanes()
//   load_fresh(p)                     of what other blocks wrote before a grid barrier
//   ballot(p), fold(p), uniform(p)    over the warp: bits of a PerLane<bool>; sums of 64 partials, by the canonical tree;
//                                     the value that all lanes hold
//   add_halves(p)                     p[l] and p[l ^ 16] become their sum
//   init(word, arrivals), init_for_copies(word)   make a 64-bit word of shared memory a barrier; before sync_all()
//   arrive(word), wait(word, parity)  of the whole warp
//   copy_rows(...)                    copies whose bytes may be read after the wait on their word, and not before
//   finish_copies()                   before the copying warp ends
//   sync_consumers(), sync_all()      all threads of the consumer warps, of the block
//   sync_grid(word)                   consumer warps of all blocks
//   launch_dependents(), wait_for_primary()   programmatic dependent launch
#pragma once

#include <cmath>

#include "signsplit/dtype.hpp"
#include "signsplit/portability.hpp"

#if defined(__CUDACC__)
#define SIGNSPLIT_DEVICE __device__ __forceinline__
#define SIGNSPLIT_UNROLL _Pragma("unroll")
#define SIGNSPLIT_UNROLL_BY(n) SIGNSPLIT_PRAGMA(unroll n)
#define SIGNSPLIT_NO_UNROLL SIGNSPLIT_PRAGMA(unroll 1)
#define SIGNSPLIT_PRAGMA(text) _Pragma(#text)
#else
#define SIGNSPLIT_DEVICE inline
#define SIGNSPLIT_UNROLL
#define SIGNSPLIT_UNROLL_BY(n)
#define SIGNSPLIT_NO_UNROLL
#endif

namespace signsplit::gpu {

/// N values of a type, aligned so that they are one memory access. Indexed by unrolled constants only, so that they stay
/// in registers.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T v[N];
};

/// N numbers kept in registers.
template <class T, int N>
struct Registers {
  T v[N];
};

/// a·b + c, rounded once.
SIGNSPLIT_DEVICE float fused_multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}

SIGNSPLIT_DEVICE std::uint32_t bits_of(float value) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(value);
#else
  return std::bit_cast<std::uint32_t>(value);
#endif
}
SIGNSPLIT_DEVICE float float_of(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  return std::bit_cast<float>(bits);
#endif
}

SIGNSPLIT_DEVICE int bit_count(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __popc(bits);
#else
  return std::popcount(bits);
#endif
}

}  // namespace signsplit::gpu
