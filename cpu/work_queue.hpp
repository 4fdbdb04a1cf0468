// The items of one phase, and who takes them.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include "signsplit/portability.hpp"

namespace signsplit::cpu {

/// For whoever waits for another thread: with more threads than processors, that one may need this one's.
inline void wait_a_moment(int turns) {
  constexpr int patience = 2000;
  if (turns > patience) std::this_thread::yield();
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// An item, or a share of one: its slices [begin, end) of `slices` equal ones.
struct WorkItem {
  index_t number = -1;  ///< −1: none
  index_t begin = 0, end = 1, slices = 1;
  int list = 0;       ///< the worker to whom it was dealt
  index_t place = 0;  ///< in his list
  [[nodiscard]] bool continues() const { return begin > 0; }
  [[nodiscard]] bool is_continued() const { return end < slices; }
};

/// Items of one phase, dealt to the workers as contiguous ranges; a worker that is done takes from the others' ranges.
/// Which worker takes an item, and whether ranges are gone through backwards, never shows in the result.
///
/// Where items do not go evenly into workers, one that lies across the border of two ranges may be cut there: the worker before takes its
/// beginning before all else, the one behind takes the rest after all else, and so hardly ever waits for it. With whole items and help at the end, 9 parts
/// and two workers took 5 % longer than that (2624x2304 bf16 from fast memory): memory gives pieces of a part more slowly than a stream.
class WorkQueue {
 public:
  void resize(int workers) { ranges_ = std::vector<Range>(static_cast<std::size_t>(workers)); }

  /// `cut`: whether items may be cut. With fewer items than workers none are.
  void reset(index_t items, bool backwards, bool cut) {
    const index_t workers = static_cast<index_t>(ranges_.size());
    cut = cut && items >= workers;
    index_t pieces = items;
    for (index_t w = 0; w < workers; ++w) {
      Range& range = ranges_[static_cast<std::size_t>(w)];
      const index_t from = items * w, to = items * (w + 1);  // in slices
      range.of_first = cut ? from % workers : 0;
      range.of_last = cut ? to % workers : 0;
      range.begin = from / workers + (range.of_first > 0 ? 1 : 0);
      range.end = to / workers;
      range.next.store(0, std::memory_order_relaxed);
      range.begun.store(false, std::memory_order_relaxed);
      pieces += range.of_last > 0 ? 1 : 0;
    }
    backwards_ = backwards;
    waiting_.store(pieces, std::memory_order_relaxed);
    unfinished_.store(pieces, std::memory_order_relaxed);
  }

  /// The next item for a worker; none when the phase has none left.
  WorkItem take(int worker) {
    const int workers = static_cast<int>(ranges_.size());
    for (int offset = 0; offset < workers; ++offset) {
      const int list = (worker + offset) % workers;
      Range& range = ranges_[static_cast<std::size_t>(list)];
      if (range.next.load(std::memory_order_relaxed) >= range.pieces()) continue;
      const index_t place = range.next.fetch_add(1, std::memory_order_relaxed);
      if (place >= range.pieces()) continue;
      waiting_.fetch_sub(1, std::memory_order_relaxed);
      return at(list, place);
    }
    return {};
  }
  /// What whoever has taken `item` takes next, more often than not; none at the end of a list.
  [[nodiscard]] WorkItem after(const WorkItem& item) const {
    const bool last = item.place + 1 >= ranges_[static_cast<std::size_t>(item.list)].pieces();
    return last ? WorkItem{} : at(item.list, item.place + 1);
  }
  [[nodiscard]] index_t workers() const { return static_cast<index_t>(ranges_.size()); }
  /// No item is left to take.
  [[nodiscard]] bool drained() const { return waiting_.load(std::memory_order_relaxed) == 0; }

  /// Before the rest of a cut item: until its beginning is finished. It has been taken, or will be, first thing, by a worker to come: whoever
  /// takes from the list of worker w has found those of the workers between himself and w empty.
  void await_beginning(const WorkItem& item) const {
    const std::atomic<bool>& begun = ranges_[static_cast<std::size_t>(item.list)].begun;
    for (int turns = 0; item.continues() && !begun.load(std::memory_order_acquire); ++turns) wait_a_moment(turns);
  }

  void finish(const WorkItem& item) {
    if (item.is_continued()) ranges_[static_cast<std::size_t>(item.list) + 1].begun.store(true, std::memory_order_release);
    unfinished_.fetch_sub(1, std::memory_order_release);
  }
  [[nodiscard]] bool finished() const { return unfinished_.load(std::memory_order_acquire) == 0; }

 private:
  /// In this order: the beginning of item `end`, the items [begin, end), the rest of item begin − 1.
  struct alignas(64) Range {
    std::atomic<index_t> next{0};
    index_t begin = 0, end = 0;
    index_t of_first = 0, of_last = 0;  // slices of the two cut items that come before this border; 0: not cut
    std::atomic<bool> begun{false};     // the beginning of item begin − 1 is finished
    [[nodiscard]] index_t pieces() const { return (of_last > 0 ? 1 : 0) + end - begin + (of_first > 0 ? 1 : 0); }
  };

  [[nodiscard]] WorkItem at(int list, index_t place) const {
    const Range& range = ranges_[static_cast<std::size_t>(list)];
    const auto slices = static_cast<index_t>(ranges_.size());
    const index_t n = place - (range.of_last > 0 ? 1 : 0);
    if (n < 0) return {range.end, 0, range.of_last, slices, list, place};
    if (n >= range.end - range.begin) return {range.begin - 1, range.of_first, slices, slices, list, place};
    return {backwards_ ? range.end - 1 - n : range.begin + n, 0, slices, slices, list, place};
  }

  std::vector<Range> ranges_;
  bool backwards_ = false;
  alignas(64) std::atomic<index_t> waiting_{0};
  alignas(64) std::atomic<index_t> unfinished_{0};
};

}  // namespace signsplit::cpu
