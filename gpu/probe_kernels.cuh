// The kernels that calibration times. None of them computes anything; each keeps the compiler from leaving its loads out.
#pragma once

#include <cooperative_groups.h>

#include <cstdint>

namespace signsplit::gpu {

/// A 16-byte load that does not stay in the L1.
__device__ inline uint4 load_streaming(const uint4* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from));
  return v;
}

__device__ inline std::uint32_t folded(uint4 v) { return v.x ^ v.y ^ v.z ^ v.w; }

/// Reads from [count] vectors `passes` times. Each thread has kLoads independent loads in flight and waits for all of them
/// before the next ones, so that blockDim · kLoads · 16 bytes are in flight per block. `sink` may be written.
template <int kLoads>
__global__ void read_probe(const uint4* from, std::size_t count, int passes, std::uint32_t* sink) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  std::uint32_t sum = 0;
  for (int pass = 0; pass < passes; ++pass) {
    std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
#pragma unroll 1
    for (; i + (kLoads - 1) * stride < count; i += kLoads * stride) {
      uint4 v[kLoads];
#pragma unroll
      for (int l = 0; l < kLoads; ++l) v[l] = load_streaming(from + i + l * stride);
#pragma unroll
      for (int l = 0; l < kLoads; ++l) sum ^= folded(v[l]);
    }
    for (; i < count; i += stride) sum ^= folded(load_streaming(from + i));
  }
  if (sum == 0x9e3779b9u) *sink = sum;
}

/// Several arrays one after the other in one launch.
struct ReadRanges {
  const uint4* begin[3];
  std::size_t count[3];
};
__global__ void read_ranges(ReadRanges ranges, int passes, std::uint32_t* sink) {
  constexpr int kLoads = 8;
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  std::uint32_t sum = 0;
#pragma unroll
  for (int r = 0; r < 3; ++r) {
    std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
#pragma unroll 1
    for (; i + (kLoads - 1) * stride < ranges.count[r]; i += kLoads * stride) {
      uint4 v[kLoads];
#pragma unroll
      for (int l = 0; l < kLoads; ++l) v[l] = load_streaming(ranges.begin[r] + i + l * stride);
#pragma unroll
      for (int l = 0; l < kLoads; ++l) sum ^= folded(v[l]);
    }
    for (; i < ranges.count[r]; i += stride) sum ^= folded(load_streaming(ranges.begin[r] + i));
  }
  if (sum == 0x9e3779b9u) *sink = sum;
}

/// Nothing; `dependent` waits for the launch before it, as a programmatic dependent launch has to.
__global__ void empty_probe(int dependent) {
#if __CUDA_ARCH__ >= 900
  if (dependent != 0) asm volatile("griddepcontrol.launch_dependents;\n\tgriddepcontrol.wait;" ::: "memory");
#endif
}

/// One load per thread from a place that no earlier launch touched.
__global__ void first_byte_probe(const uint4* from, std::size_t count, std::size_t offset, std::uint32_t* sink) {
  const std::size_t i = offset + static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::uint32_t sum = folded(load_streaming(from + i % count));
  if (sum == 0x9e3779b9u) *sink = sum;
}

/// `steps` barriers of the whole grid.
__global__ void grid_barrier_probe(int steps) {
  const auto grid = cooperative_groups::this_grid();
  for (int step = 0; step < steps; ++step) grid.sync();
}

/// The same with one counter in device memory, which must be 0 at the start.
__global__ void atomic_barrier_probe(unsigned* counter, int steps) {
  for (int step = 0; step < steps; ++step) {
    __syncthreads();
    if (threadIdx.x == 0) {
      __threadfence();
      atomicAdd(counter, 1u);
      const unsigned wanted = static_cast<unsigned>(step + 1) * gridDim.x;
      while (*static_cast<volatile unsigned*>(counter) < wanted) {
      }
      __threadfence();
    }
    __syncthreads();
  }
}

/// next[i] is the index to go to: `steps` dependent loads by one thread.
__global__ void chase_probe(const std::uint32_t* next, int steps, std::uint32_t* sink) {
  std::uint32_t at = 0;
  for (int step = 0; step < steps; ++step) at = *static_cast<const volatile std::uint32_t*>(next + at);
  *sink = at;
}

}  // namespace signsplit::gpu
