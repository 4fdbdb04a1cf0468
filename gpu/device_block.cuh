// The block abstraction (block.hpp) on a CUDA device. From compute capability 9.0 on copies are bulk copies that complete
// on a barrier; before, each lane copies 16 bytes at a time (cp.async), and its barrier counts the lanes.
#pragma once

#include "block.hpp"

namespace signsplit::gpu {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define SIGNSPLIT_BULK_COPIES 1
#endif

class DeviceBlock {
 public:
  template <class T>
  class PerLane {
   public:
    __device__ __forceinline__ T& operator[](int) { return value_; }
    __device__ __forceinline__ const T& operator[](int) const { return value_; }

   private:
    T value_;
  };

  __device__ __forceinline__ DeviceBlock(std::byte* shared, int consumer_warps)
      : shared_(shared),
        consumer_threads_(consumer_warps * 32),
        warp_(__shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0)) {}  // the same in all lanes, for the compiler too

  __device__ __forceinline__ int cta() const { return static_cast<int>(blockIdx.x); }
  __device__ __forceinline__ int ctas() const { return static_cast<int>(gridDim.x); }
  __device__ __forceinline__ int warp() const { return warp_; }
  __device__ __forceinline__ std::byte* shared() const { return shared_; }

  template <class F>
  __device__ __forceinline__ void lanes(F&& f) {
    f(lane());
    __syncwarp();
  }

  template <class T>
  __device__ __forceinline__ T load(const T* p) const {
    return *p;
  }
  __device__ __forceinline__ float load_fresh(const float* p) const { return __ldcg(p); }
  template <class T>
  __device__ __forceinline__ void store(T* p, const T& value) const {
    *p = value;
  }

  __device__ __forceinline__ void atomic_add(std::int64_t* p, std::int64_t value) const {
    atomicAdd(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(value));
  }

  __device__ __forceinline__ std::uint32_t ballot(const PerLane<bool>& p) const { return __ballot_sync(~0u, p[0]); }
  template <class T>
  __device__ __forceinline__ T uniform(const PerLane<T>& p) const {
    return __shfl_sync(~0u, p[0], 0);
  }
  __device__ __forceinline__ void add_halves(PerLane<std::uint32_t>& p) const { p[0] += __shfl_xor_sync(~0u, p[0], 16); }
  /// Upper half of the partials onto the lower: 32 to 2 across lanes, 1 inside each. All lanes end with the sum.
  template <int N>
  __device__ __forceinline__ PerLane<Registers<float, N>> fold(const PerLane<Registers<Pack<float, 2>, N>>& p) const {
    PerLane<Registers<float, N>> result;
#pragma unroll
    for (int n = 0; n < N; ++n) {
      Pack<float, 2> sum = p[0].v[n];
#pragma unroll
      for (int half = 16; half >= 1; half /= 2) {
        sum.v[0] += __shfl_xor_sync(~0u, sum.v[0], half);
        sum.v[1] += __shfl_xor_sync(~0u, sum.v[1], half);
      }
      result[0].v[n] = sum.v[0] + sum.v[1];
    }
    return result;
  }

  __device__ __forceinline__ void init(std::uint64_t* word, int arrivals) const {
    if (lane() == 0) asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(address(word)), "r"(arrivals) : "memory");
  }
  __device__ __forceinline__ void init_for_copies(std::uint64_t* word) const {
#if defined(SIGNSPLIT_BULK_COPIES)
    init(word, 1);
#else
    init(word, 32);
#endif
  }
  __device__ __forceinline__ void arrive(std::uint64_t* word) const {
    __syncwarp();
    if (lane() == 0) asm volatile("{.reg .b64 state; mbarrier.arrive.shared.b64 state, [%0];}" ::"r"(address(word)) : "memory");
    __syncwarp();
  }
  __device__ __forceinline__ void wait(std::uint64_t* word, std::uint32_t parity) const {
    std::uint32_t done;
    do {
#if defined(SIGNSPLIT_BULK_COPIES)
      asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                   : "=r"(done)
                   : "r"(address(word)), "r"(parity)
                   : "memory");
#else
      asm volatile("{.reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                   : "=r"(done)
                   : "r"(address(word)), "r"(parity)
                   : "memory");
#endif
    } while (done == 0);
  }

  template <class Source>
  __device__ __forceinline__ void copy_rows(std::byte* to, int bytes, int rows, Source&& source, std::uint64_t* full,
                                            bool evict_first) const {
    std::uint64_t policy;
    if (evict_first) {
      asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    } else {
      asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
    }
#if defined(SIGNSPLIT_BULK_COPIES)
    if (lane() == 0) {
      asm volatile("{.reg .b64 state; mbarrier.arrive.expect_tx.shared.b64 state, [%0], %1;}" ::"r"(address(full)),
                   "r"(static_cast<std::uint32_t>(bytes * rows))
                   : "memory");
    }
    __syncwarp();
    for (int row = lane(); row < rows; row += 32) {
      asm volatile(
          "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
              address(to + row * bytes)),
          "l"(source(row)), "r"(static_cast<std::uint32_t>(bytes)), "r"(address(full)), "l"(policy)
          : "memory");
    }
    __syncwarp();
#else
    for (int row = 0; row < rows; ++row) {
      const std::byte* from = source(row);
      for (int at = lane() * 16; at < bytes; at += 32 * 16) {
        asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(address(to + row * bytes + at)),
                     "l"(from + at), "l"(policy)
                     : "memory");
      }
    }
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(address(full)) : "memory");
#endif
  }

  __device__ __forceinline__ void finish_copies() const {
#if !defined(SIGNSPLIT_BULK_COPIES)
    asm volatile("cp.async.wait_all;" ::: "memory");  // a lane's arrivals are its own business: it stays until they are done
#endif
  }

  __device__ __forceinline__ void sync_consumers() const { asm volatile("bar.sync 1, %0;" ::"r"(consumer_threads_) : "memory"); }
  __device__ __forceinline__ void sync_all() const {
#if defined(SIGNSPLIT_BULK_COPIES)
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");  // the copy engine sees the barriers
#endif
    __syncthreads();
  }
  /// All blocks must be resident. The word's upper bit flips each time, and its lower bits return to 0, so that launches of
  /// different sizes can use it one after the other.
  __device__ __forceinline__ void sync_grid(std::uint32_t* word) const {
    sync_consumers();
    if (threadIdx.x == 0) {
      constexpr std::uint32_t kFlip = 0x80000000u;
      const std::uint32_t step = cta() == 0 ? kFlip - (gridDim.x - 1) : 1u;
      __threadfence();
      const std::uint32_t before = atomicAdd(word, step);
      while (((before ^ *static_cast<volatile std::uint32_t*>(word)) & kFlip) == 0) {
      }
      __threadfence();
    }
    sync_consumers();
  }

  __device__ __forceinline__ void launch_dependents() const {
#if defined(SIGNSPLIT_BULK_COPIES)
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
  }
  __device__ __forceinline__ void wait_for_primary() const {
#if defined(SIGNSPLIT_BULK_COPIES)
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
  }

 private:
  __device__ __forceinline__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ __forceinline__ static std::uint32_t address(const void* p) {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
  }

  std::byte* shared_;
  int consumer_threads_, warp_;
};

}  // namespace signsplit::gpu
