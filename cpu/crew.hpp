// Workers that have no item left help those that have: kernel calls are cut into pieces.
//
// Items are taken whole, because each has a y of its own. So at the end of a phase a worker waited for the others, half an item on
// average: 2 % of a call, and more where few rows are read (skip). No bit changes: pieces of product 1 are rows, pieces of product 2
// columns of y, and each sum is still added by one worker and in its order.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "work_queue.hpp"

namespace signsplit::cpu {

/// A kernel call in pieces, which are done in any order, side by side.
struct SharedCall {
  void (*run)(const void* call, index_t piece) = nullptr;
  const void* call = nullptr;
};

class Crew {
 public:
  static constexpr index_t kMostPieces = 1024;

  void resize(int workers) { desks_ = std::vector<Desk>(static_cast<std::size_t>(workers)); }

  /// How many would help now.
  [[nodiscard]] index_t idle() const { return idle_.load(std::memory_order_relaxed); }

  /// Does all pieces, at most kMostPieces, together with who helps. `worker`: whose call it is.
  void share(int worker, const SharedCall& call, index_t pieces) {
    Desk& desk = desks_[static_cast<std::size_t>(worker)];
    desk.call = call;
    desk.helped.store(0, std::memory_order_relaxed);
    const std::uint64_t number = (desk.ticket.load(std::memory_order_relaxed) >> kNumberShift) + 1;
    desk.ticket.store(number << kNumberShift | static_cast<std::uint64_t>(pieces) << kPieceBits, std::memory_order_release);
    index_t own = 0;
    for (index_t piece = take(desk); piece >= 0; piece = take(desk), ++own) call.run(call.call, piece);
    for (int turns = 0; desk.helped.load(std::memory_order_acquire) != pieces - own; ++turns) wait_a_moment(turns);
  }

  /// For a worker that the queue has nothing left for: helps until its items are all finished.
  void help(const WorkQueue& queue) {
    idle_.fetch_add(1, std::memory_order_relaxed);
    for (int turns = 0; !queue.finished(); ++turns) {
      for (Desk& desk : desks_) {
        for (index_t piece = take(desk); piece >= 0; piece = take(desk), turns = 0) {
          desk.call.run(desk.call.call, piece);
          desk.helped.fetch_add(1, std::memory_order_release);
        }
      }
      wait_a_moment(turns);
    }
    idle_.fetch_sub(1, std::memory_order_relaxed);
  }

 private:
  static constexpr int kPieceBits = 16, kNumberShift = 2 * kPieceBits;

  /// The call of one worker that is open for help. The ticket holds the call's number, its pieces, and the next of them: who raises
  /// it has a piece of that very call, which then cannot end before he is done.
  struct alignas(64) Desk {
    std::atomic<std::uint64_t> ticket{0};
    std::atomic<index_t> helped{0};
    SharedCall call;
  };

  /// A piece that nobody has taken yet, or −1.
  static index_t take(Desk& desk) {
    constexpr std::uint64_t mask = (1u << kPieceBits) - 1;
    std::uint64_t ticket = desk.ticket.load(std::memory_order_relaxed);
    while ((ticket & mask) < (ticket >> kPieceBits & mask)) {
      if (desk.ticket.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acquire, std::memory_order_relaxed)) {
        return static_cast<index_t>(ticket & mask);
      }
    }
    return -1;
  }

  std::vector<Desk> desks_;
  alignas(64) std::atomic<int> idle_{0};
};

}  // namespace signsplit::cpu
