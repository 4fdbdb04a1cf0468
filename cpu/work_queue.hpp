// The items of one phase, and who takes them.
#pragma once

#include <atomic>
#include <vector>

#include "signsplit/portability.hpp"

namespace signsplit::cpu {

/// Items of one phase, dealt to the workers as contiguous ranges; a worker that is done takes from the others' ranges.
/// Which worker takes an item, and whether ranges are gone through backwards, never shows in the result.
class WorkQueue {
 public:
  void resize(int workers) { ranges_ = std::vector<Range>(static_cast<std::size_t>(workers)); }
  void reset(index_t items, bool backwards) {
    const index_t workers = static_cast<index_t>(ranges_.size());
    for (index_t w = 0; w < workers; ++w) {
      Range& range = ranges_[static_cast<std::size_t>(w)];
      range.begin = items * w / workers;
      range.end = items * (w + 1) / workers;
      range.next.store(range.begin, std::memory_order_relaxed);
    }
    backwards_ = backwards;
    waiting_.store(items, std::memory_order_relaxed);
    unfinished_.store(items, std::memory_order_relaxed);
  }

  /// The next item for a worker, or −1 when the phase has none left.
  index_t take(int worker) {
    const std::size_t workers = ranges_.size();
    for (std::size_t offset = 0; offset < workers; ++offset) {
      Range& range = ranges_[(static_cast<std::size_t>(worker) + offset) % workers];
      if (range.next.load(std::memory_order_relaxed) >= range.end) continue;
      const index_t item = range.next.fetch_add(1, std::memory_order_relaxed);
      if (item >= range.end) continue;
      waiting_.fetch_sub(1, std::memory_order_relaxed);
      return backwards_ ? range.begin + range.end - 1 - item : item;
    }
    return -1;
  }
  /// No item is left to take.
  [[nodiscard]] bool drained() const { return waiting_.load(std::memory_order_relaxed) == 0; }

  void finish_one() { unfinished_.fetch_sub(1, std::memory_order_release); }
  [[nodiscard]] bool finished() const { return unfinished_.load(std::memory_order_acquire) == 0; }

 private:
  struct alignas(64) Range {
    std::atomic<index_t> next{0};
    index_t begin = 0, end = 0;
  };
  std::vector<Range> ranges_;
  bool backwards_ = false;
  alignas(64) std::atomic<index_t> waiting_{0};
  alignas(64) std::atomic<index_t> unfinished_{0};
};

}  // namespace signsplit::cpu
