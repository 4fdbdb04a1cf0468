// A GPU in plain C++ for the tests of the kernel bodies: EmulatedBlock is what block.hpp asks for.
//
// Warps are fibers, switched at random at every synchronization; lanes run in random order; copies land when somebody
// waits for them and no sooner; memory is followed access by access (emulated_memory.hpp). A seed fixes everything. A
// Fault breaks one rule of the machine once, to show that a test sees it.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <random>

#include "block.hpp"
#include "emulated_memory.hpp"
#include "fibers.hpp"

namespace signsplit::test {

/// What to break, at the `at`-th opportunity (from 0); at < 0: at every one.
struct Fault {
  enum class Kind : std::uint8_t {
    none,
    missing_wait,           ///< a consumer does not wait for a stage
    missing_release_wait,   ///< the producer does not wait for a stage to be free
    missing_list_wait,      ///< nobody waits for a list
    missing_barrier,        ///< a warp runs through a barrier of the consumers
    missing_grid_barrier,   ///< a warp runs through the grid barrier
    missing_primary_wait,   ///< a warp does not wait for the kernel before
    wrong_slot,             ///< a copy goes into the next stage
    short_copy,             ///< a copy brings 16 bytes too few
  };
  Kind kind = Kind::none;
  int at = 0;
};

class EmulatedGrid;

/// One warp of an emulated block. See gpu/block.hpp for what its functions mean.
class EmulatedBlock {
 public:
  template <class T>
  class PerLane {
   public:
    T& operator[](int lane) { return value_[static_cast<std::size_t>(lane)]; }
    const T& operator[](int lane) const { return value_[static_cast<std::size_t>(lane)]; }

   private:
    std::array<T, 32> value_{};
  };

  EmulatedBlock(EmulatedGrid& grid, std::size_t id, int kernel, int cta, int ctas, int warp, int consumers, std::byte* shared)
      : grid_(grid), id_(id), kernel_(kernel), cta_(cta), ctas_(ctas), warp_(warp), consumers_(consumers), shared_(shared) {}

  [[nodiscard]] int cta() const { return cta_; }
  [[nodiscard]] int ctas() const { return ctas_; }
  [[nodiscard]] int warp() const { return warp_; }
  [[nodiscard]] std::byte* shared() const { return shared_; }

  template <class F>
  void lanes(F&& f) {
    begin_lanes();
    for (const int lane : order_) {
      lane_ = lane;
      f(lane);
    }
    lane_ = -1;
  }

  template <class T>
  [[nodiscard]] T load(const T* p) {
    check_read(reinterpret_cast<const std::byte*>(p), sizeof(T), alignof(T));
    return *p;
  }
  template <class T>
  [[nodiscard]] T load_fresh(const T* p) {
    return load(p);
  }
  template <class T>
  void store(T* p, const T& value) {
    check_write(reinterpret_cast<std::byte*>(p), sizeof(T), alignof(T));
    *p = value;
  }

  void atomic_add(std::int64_t* p, std::int64_t value) {
    check_atomic(reinterpret_cast<std::byte*>(p), sizeof *p);
    *p += value;
  }

  [[nodiscard]] std::uint32_t ballot(const PerLane<bool>& p) const {
    std::uint32_t bits = 0;
    for (int lane = 0; lane < 32; ++lane) bits |= (p[lane] ? 1u : 0u) << lane;
    return bits;
  }
  template <class T>
  [[nodiscard]] T uniform(const PerLane<T>& p) const {
    for (int lane = 1; lane < 32; ++lane) {
      if (p[lane] != p[0]) throw EmulationError("lanes disagree on a uniform value");
    }
    return p[0];
  }
  void add_halves(PerLane<std::uint32_t>& p) const {
    for (int lane = 0; lane < 16; ++lane) p[lane] = p[lane + 16] = p[lane] + p[lane + 16];
  }
  template <int N>
  [[nodiscard]] PerLane<gpu::Registers<float, N>> fold(const PerLane<gpu::Registers<gpu::Pack<float, 2>, N>>& p) const {
    PerLane<gpu::Registers<gpu::Pack<float, 2>, N>> sums = p;
    for (int half = 16; half >= 1; half /= 2) {
      const auto before = sums;
      for (int lane = 0; lane < 32; ++lane) {
        for (int n = 0; n < N; ++n) {
          for (int i = 0; i < 2; ++i) sums[lane].v[n].v[i] = before[lane].v[n].v[i] + before[lane ^ half].v[n].v[i];
        }
      }
    }
    PerLane<gpu::Registers<float, N>> result;
    for (int lane = 0; lane < 32; ++lane) {
      for (int n = 0; n < N; ++n) result[lane].v[n] = sums[lane].v[n].v[0] + sums[lane].v[n].v[1];
    }
    return result;
  }

  void init(std::uint64_t* word, int arrivals);
  void init_for_copies(std::uint64_t* word);
  void arrive(std::uint64_t* word);
  void wait(std::uint64_t* word, std::uint32_t parity);
  template <class Source>
  void copy_rows(std::byte* to, int bytes, int rows, Source&& source, std::uint64_t* full, bool) {
    std::vector<const std::byte*> from(static_cast<std::size_t>(rows));
    lanes([&](int lane) {
      for (int row = lane; row < rows; row += 32) from[static_cast<std::size_t>(row)] = source(row);
    });
    issue_copies(to, static_cast<std::size_t>(bytes), from, full);
  }

  void finish_copies() {}
  void sync_consumers();
  void sync_all();
  void sync_grid(std::uint32_t* word);
  void launch_dependents() {}
  void wait_for_primary();

 private:
  void begin_lanes();
  void check_read(const std::byte* p, std::size_t bytes, std::size_t alignment);
  void check_write(std::byte* p, std::size_t bytes, std::size_t alignment);
  void check_atomic(std::byte* p, std::size_t bytes);
  void issue_copies(std::byte* to, std::size_t bytes, const std::vector<const std::byte*>& from, std::uint64_t* full);
  void make_barrier(std::uint64_t* word, int arrivals, bool copies);
  void meet(int kind, int key, int count, bool runs_through);

  EmulatedGrid& grid_;
  std::size_t id_;
  int kernel_, cta_, ctas_, warp_, consumers_;
  std::byte* shared_;
  int lane_ = -1;
  std::array<int, 32> order_{};
};

/// Runs kernels, one after the other or, for dependent launch, side by side.
class EmulatedGrid {
 public:
  using Body = std::function<void(EmulatedBlock&)>;
  struct Kernel {
    Body body;
    int ctas = 1, consumer_warps = 1;
    std::size_t shared_bytes = 0;
  };

  EmulatedGrid(std::vector<Kernel> kernels, std::uint64_t seed, Fault fault = {});
  /// Device memory. cell_bytes and initialized as in Region.
  void add_region(std::string name, const void* begin, std::size_t bytes, std::size_t cell_bytes, bool initialized);
  /// Empty, or what rule was broken first.
  [[nodiscard]] std::string run();
  [[nodiscard]] bool all_written(const void* begin) const;

 private:
  friend class EmulatedBlock;

  struct PendingCopy {
    std::byte* to;
    std::size_t bytes;
    const std::byte* from;
  };
  struct Barrier {  // a 64-bit barrier word
    int arrivals = 0, missing = 0;
    bool for_copies = false;
    std::uint32_t phase = 0;
    Clock gathering, completed;
    std::vector<PendingCopy> copies;
  };
  struct Meeting {  // a barrier that a fixed set of warps passes together
    int arrived = 0;
    std::uint64_t round = 0;
    Clock gathering, released;
  };
  struct Warp {
    std::unique_ptr<Fiber> fiber;
    std::unique_ptr<EmulatedBlock> block;
    std::function<bool()> ready;
    Clock clock;
    int kernel = 0;
  };

  void build();
  Region& region_of(const std::byte* p, std::size_t bytes);
  void wait_until(std::size_t warp, std::function<bool()> ready);
  [[nodiscard]] bool fault_now(Fault::Kind kind);
  bool try_complete(Barrier& barrier);

  std::vector<Kernel> kernels_;
  std::mt19937_64 rng_;
  Fault fault_;
  int opportunities_ = 0;
  std::deque<Region> regions_;
  struct RegionSpec {
    std::string name;
    std::byte* begin;
    std::size_t bytes, cell_bytes;
    bool initialized;
  };
  std::vector<RegionSpec> specs_;
  std::vector<std::unique_ptr<std::byte[]>> shared_;
  std::vector<Warp> warps_;
  std::map<const std::uint64_t*, Barrier> barriers_;
  std::map<std::pair<int, int>, Meeting> meetings_;
  std::vector<int> running_;  // warps of a kernel that have not ended
  Clock finished_;            // joined clocks of ended warps
  std::uint64_t phase_ = 0;
  std::string error_;
};

}  // namespace signsplit::test
