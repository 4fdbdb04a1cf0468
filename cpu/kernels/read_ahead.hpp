// The stream of weights, asked for ahead of its use: across rows, from one list of rows into the next.
//
// The hardware's prefetchers start anew at every row and page, and do not know which row of another matrix is next. Measured
// on a 2-core Zen 5 virtual machine, one token, layers in DRAM, in parts of the bandwidth of plain loads: one row at a time
// with this cursor 6 KiB ahead 0.98 to 1.0 while the two cores together read 50 GB/s, and 0.94 in moments in which they
// read 75 GB/s; 8 KiB ahead 1 to 2 % less; 4 KiB 0.97 and 0.93, and from the last-level cache 1.07 times the time in bf16, 1.16 times
// in f32; 12 KiB 0.96 and 0.90. Four rows at once without a cursor: 0.87; two or
// four at once with one: 0.92 and 0.80, and into the second level only no better. From the last-level cache, rows so short
// that four lie within the distance are faster four at once (1.2 times).
#pragma once

#include "kernel_table.hpp"

namespace signsplit::cpu {
namespace {

inline index_t row_number(const RowList& list, index_t i) { return list.rows != nullptr ? list.rows[i] : list.first + i; }
inline const char* row_address(const RowList& list, index_t i) {
  return static_cast<const char*>(list.matrix) + row_number(list, i) * list.row_bytes;
}

/// Asks for `Lines` cache lines from `at` on.
template <int Level, int Lines>
inline void ask_for(const char* at) {
#pragma GCC unroll 8
  for (int i = 0; i < Lines; ++i) __builtin_prefetch(at + i * 64, 0, 4 - Level);
}

// What a kernel asks for while it reads some rows, step by step. These live in registers: the cursor below lives in memory, and
// a kernel that moves it at every step took 1.3 times as long from the last-level cache (bf16, rows of 768 elements).

/// Addresses that lie in one piece.
template <int Level>
class Stretch {
 public:
  explicit Stretch(const char* at) : at_(at) {}
  template <int Lines>
  void step(int) {
    ask_for<Level, Lines>(at_);
    at_ += Lines * 64;
  }

 private:
  const char* at_;
};

/// Addresses up to `bend`, then those from `then` on. Steps end at the bend.
template <int Level>
class BentStretch {
 public:
  BentStretch(const char* at, const char* bend, const char* then) : at_(at), bend_(bend), then_(then) {}
  template <int Lines>
  void step(int) {
    ask_for<Level, Lines>(at_);
    at_ += Lines * 64;
    at_ = at_ == bend_ ? then_ : at_;
  }

 private:
  const char *at_, *bend_, *then_;
};

/// R rows, anywhere, in step with R rows that are read.
template <int Level, int R>
class RowStretches {
 public:
  explicit RowStretches(const char* const (&rows)[R]) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) at_[r] = rows[r];
  }
  template <int Lines>
  void step(int row) {
    ask_for<Level, Lines>(at_[row]);
    at_[row] += Lines * 64;
  }

 private:
  const char* at_[R];
};

/// For kernels that go over the same rows in several passes: Lines requests a step, `bytes_apart`, so that a pass asks for its share of
/// what is read later. Where that is less than a line, lines are asked for twice. In a burst they would keep the kernel's own loads
/// waiting (4 tokens: 1.3 times the time; even all of a step's at its beginning cost them 4 %, so that a step has parts). A step has a
/// fixed number of requests and hardly a branch that depends on data.
///
/// Each line is asked for again, 4 KiB later: processors drop such requests while too many loads wait, and a dropped one costs the
/// kernel the whole latency of memory. Asked for twice, 8 and 16 tokens take 0.88 to 0.92 of the time, 4 tokens 0.95; 1 or 2 KiB later they
/// take 1.05 times as long as 4 KiB later, 96 KiB later is no help, and three times is no better than once. kAgain: whether that is done.
template <int Level, int Lines, bool kAgain>
class PacedStretch {
 public:
  /// From `at`, of which `behind` bytes are before it in one piece, up to `bend`, then from `then`, which has no bend.
  PacedStretch(const char* at, index_t bytes_apart, index_t behind, const char* bend, const char* then)
      : at_(at), bytes_apart_(bytes_apart), again_(behind >= kLater ? -kLater : 0), bend_(bend), jump_(then - bend) {}
  /// One of the equal parts of a step.
  void step(int part = 0, int parts = 1) {
#pragma GCC unroll 8
    for (int n = part * Lines / parts; n < (part + 1) * Lines / parts; ++n) {
      ask_for<Level, 1>(at_);
      if constexpr (kAgain) ask_for<Level, 1>(at_ + again_);
      at_ += bytes_apart_;
      if (at_ >= bend_) [[unlikely]] {
        at_ += jump_;
        bend_ = at_ + kFar;
        again_ = 0;
      }
    }
  }

 private:
  static constexpr index_t kLater = 4 * 1024, kFar = index_t{1} << 40;  // bytes
  const char* at_;
  index_t bytes_apart_, again_;
  const char* bend_;
  index_t jump_;
};

/// The same where the requests of all steps are whole lines in one piece: no branch, and registers enough.
template <int Level, int Lines, bool kAgain>
class StraightStretch {
 public:
  explicit StraightStretch(const char* at) : at_(at) {}
  void step(int part = 0, int parts = 1) {
#pragma GCC unroll 8
    for (int n = part * Lines / parts; n < (part + 1) * Lines / parts; ++n, at_ += 64) {
      ask_for<Level, 1>(at_);
      if constexpr (kAgain) ask_for<Level, 1>(at_ - 4 * 1024);
    }
  }

 private:
  const char* at_;
};

/// For rows that are left to the hardware.
struct NothingAhead {
  template <int Lines>
  void step(int) {}
};

/// Whether one token's rows come from memory as one stretch of addresses, and at least `next_rows` that follow too, if any do.
template <class Rows>
inline bool in_one_piece_from_memory(const Rows& a, index_t next_rows = 1) {
  const auto in_one_piece = [](const RowList& list, index_t at_least) {
    return list.rows == nullptr && list.bytes == list.row_bytes && list.row_count >= at_least;
  };
  return a.from_memory && in_one_piece(a.list, 8) && (a.next.row_count == 0 || in_one_piece(a.next, next_rows));
}

/// Whether such rows are read without a request: f32 with 16 lanes. A line of f32 takes two or three instructions, so that a core has as many
/// lines in flight as the memory needs, and the hardware's prefetchers do better where no request comes between. In parts of the rate of plain loads in four streams,
/// 2048x8192 in loops of their own: product 1 one row at a time with requests 0.95 (80 GB/s) and 0.985 (52), two rows half a tile apart
/// without 0.99 to 1.0 in both; product 2 one row with requests 0.95 and 0.965, four without 0.99 and 1.0, one without 0.65 and 0.75.
/// bf16, which takes three times the instructions: 0.95 and 0.97 with, 0.5 to 0.8 without. To ask for the beginnings of what follows, or of the
/// next four rows, is no help (1.0 to 1.02 times the time).
template <class L, class T>
inline constexpr bool kFewInstructions = L::width == 16 && sizeof(T) == 4;
template <class Rows>
inline bool reads_unasked(const Rows& a) {
  return in_one_piece_from_memory(a, 8);
}

/// Asks for such rows while they are read: each line 7 KiB before it is, and 12 KiB before it the first line of a page. The hardware's
/// prefetchers start anew in every page; the early line sets them going there. bf16 rows of 2, 4 and 8 KiB, the two products in turns, in parts of the rate of plain
/// loads in four streams: 0.97 to 0.98 where that is 80 GB/s, 0.98 where it is 47. With ReadAhead, whose 6 KiB and three lines of each page of W1, 16 KiB
/// ahead, were the best known to it: 0.94 to 0.95 and 0.97 to 0.985. 8 KiB, and an early line 16 KiB ahead, are as good at 80 GB/s and lose 0.01 at 47; more
/// lines, or steps of four lines in place of two, lose up to 0.01.
class PieceAhead {
 public:
  /// Asks for what the call before has not asked for of the beginning.
  template <class Rows>
  explicit PieceAhead(const Rows& a)
      : bend_(row_address(a.list, a.list.row_count)), next_(a.next.row_count > 0 ? row_address(a.next, 0) : nullptr) {
    for (index_t b = a.asked_bytes; b < kAhead; b += 64) ask_for<1, 1>(row_address(a.list, 0) + b);
  }

  struct Stretch {
    const char* end;  ///< of the bytes that are read
    index_t to;       ///< bytes from each of their lines to the line that it asks for
  };
  /// Bytes [at, row_end) of a row, or as many of them as ask in one way. Inlined by force: GCC keeps no call that only prefetches.
  __attribute__((always_inline)) inline Stretch stretch(const char* at, const char* row_end) const {
    const char* end = row_end - at > kPage ? at + kPage : row_end;
    const bool beyond = at + kAhead >= bend_;
    if (!beyond && end + kAhead > bend_) end = bend_ - kAhead;
    const auto past_page = static_cast<index_t>(reinterpret_cast<std::uintptr_t>(at) % kPage);
    const char* const early = at + kEarly + (past_page == 0 ? 0 : kPage - past_page);
    if (early < end + kEarly) ask_for<2, 1>(early < bend_ || next_ == nullptr ? early : next_ + (early - bend_));
    return {end, !beyond ? kAhead : next_ != nullptr ? kAhead + (next_ - bend_) : 0};
  }

 private:
  static constexpr index_t kPage = 4096, kAhead = 7 * 1024, kEarly = 12 * 1024;  // bytes
  const char* bend_;  // where the rows end
  const char* next_;  // and where those that follow begin, or null
};

/// Walks over `list`, then `next`, a fixed distance ahead of the kernel that reads them. Level: the cache that is filled.
template <int Level>
class ReadAhead {
 public:
  /// The first `asked_bytes` of the list were asked for by the kernel before; asks for the others up to the distance. For scattered
  /// rows that is a whole number of them, so that a row begins to be asked for when one begins to be read.
  ReadAhead(const RowList& list, const RowList& next, index_t asked_bytes, index_t distance_bytes)
      : list_(&list), next_(&next) {
    enter(list);
    index_t left = asked_bytes < distance_bytes ? asked_bytes : distance_bytes;
    const index_t apart_bytes = distance_bytes > kApartBytesAhead ? distance_bytes : kApartBytesAhead;
    const bool whole_rows = list.rows != nullptr && list.bytes < apart_bytes;
    const index_t burst = (whole_rows ? ceil_div(apart_bytes, list.bytes) * list.bytes : distance_bytes) - left;
    while (list_ != nullptr && left >= end_ - at_) {
      left -= end_ - at_;
      next_row();
    }
    at_ += left;
    // As far as there is something to ask for: the short lists of a sign_split tile of several tokens end long before the distance, and
    // asking for their last line until it is reached took 0.2 us per row piece, more than everything else of it.
    for (index_t bytes = 0; bytes < burst && list_ != nullptr; bytes += kLine) step<1>(0);
  }

  /// Asks for the next `Lines` cache lines. Rows must be whole multiples of them.
  template <int Lines>
  void step(int) {
    ask_for<Level, Lines>(at_);
    at_ += Lines * kLine;
    if (at_ >= end_) next_row();
  }

  /// Calls read(something with step) for a kernel that reads R rows and so moves the cursor by `bytes` in all, in steps of each
  /// row in turn: something in registers where the rows ahead allow it, else the cursor itself.
  template <int R, class Read>
  void over(index_t bytes, Read&& read) {
    const index_t left = end_ - at_;
    if (left >= bytes) {
      Stretch<Level> stretch(at_);
      at_ += bytes;
      if (at_ == end_) next_row();
      read(stretch);
    } else if (R > 1 && at_ == last_ && list_ != nullptr && list_->rows != nullptr && i_ + R <= list_->row_count) {
      const char* rows[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) rows[r] = row_address(*list_, i_ + r);
      RowStretches<Level, R> stretches(rows);
      i_ += R - 1;
      next_row();
      read(stretches);
    } else if (left + bytes_of_next_piece() >= bytes) {
      const char *from = at_, *bend = end_;
      next_row();
      BentStretch<Level> stretch(from, bend, at_);
      if (list_ != nullptr) {
        at_ += bytes - left;
        if (at_ == end_) next_row();
      }
      read(stretch);
    } else {
      read(*this);
    }
  }

  /// Asks for the first lines of the pages that lie kPagesAhead beyond those that the next `bytes` of requests begin, of lists in one piece.
  /// The hardware's prefetchers start anew in every page; some lines in a row set them going there before the kernel's requests come.
  /// 4 tokens of bf16 rows of 4 KiB, from memory that gives the two cores 80 GB/s: 0.985 of the time.
  /// Inlined by force: GCC drops the call of a function that only prefetches.
  __attribute__((always_inline)) inline void open_pages(index_t bytes) const {
    if (list_ == nullptr || i_ + 1 < list_->row_count) return;
    const auto past_page = static_cast<index_t>(reinterpret_cast<std::uintptr_t>(at_) % kPage);
    for (index_t ahead = past_page == 0 ? 0 : kPage - past_page; ahead < bytes; ahead += kPage) {
      const index_t past_end = at_ - end_ + ahead + kPagesAhead;
      if (past_end < 0) {
        ask_for<2, kLinesToOpen>(end_ + past_end);
      } else if (next_ != nullptr && next_->row_count > 0 && in_one_piece(*next_)) {
        ask_for<2, kLinesToOpen>(row_address(*next_, 0) + past_end);
      }
    }
  }

  /// For kernels that read a block of rows in several passes: before every pass of `steps` steps, with the bytes that it will
  /// read; the cursor moves on by their `passes`-th part.
  template <int Lines, bool kAgain = true>
  PacedStretch<Level, Lines, kAgain> pace(index_t bytes, index_t passes, index_t steps) {
    due_ += bytes;
    index_t more = due_ / (passes * kLine) * kLine;
    due_ -= more * passes;
    const index_t apart = ceil_div(more, steps * Lines);
    const char *const from = at_, *const bend = end_;
    const index_t behind = from - last_;
    if (list_ == nullptr) return {from, 0, 0, from + kLine, from};
    if (more < end_ - at_) {
      at_ += more;
      return {from, apart, behind, bend + kLots, bend};
    }
    more -= end_ - at_;
    next_row();
    for (; list_ != nullptr && more >= end_ - at_; next_row()) {  // rows shorter than a pass: at once
      more -= end_ - at_;
      for (; at_ < end_; at_ += kLine) ask_for<Level, 1>(at_);
    }
    const char* const then = at_;
    if (list_ != nullptr) at_ += more;
    return {from, apart, behind, bend, then};
  }

  /// How many blocks of `bytes` follow in one piece, and the address of the first of `blocks` of them, which are then passed: for a kernel
  /// that asks for them by itself.
  [[nodiscard]] index_t blocks_in_piece(index_t bytes) const { return list_ != nullptr && due_ == 0 ? (end_ - at_ - 1) / bytes : 0; }
  const char* pass(index_t blocks, index_t bytes) {
    const char* const from = at_;
    at_ += blocks * bytes;
    return from;
  }

  /// Calls read(requests) for a pass that is the only one over its rows.
  template <int Lines, bool kAgain = true, class Read>
  void pace_over(index_t bytes, index_t steps, Read&& read) {
    const index_t more = steps * Lines * kLine;
    if (bytes == more && due_ == 0 && more < end_ - at_) {
      StraightStretch<Level, Lines, kAgain> requests(at_);
      at_ += more;
      read(requests);
    } else {
      read(pace<Lines, kAgain>(bytes, 1, steps));
    }
  }

 private:
  static constexpr index_t kLine = 64, kLots = index_t{1} << 40;  // bytes
  static constexpr index_t kPage = 4096, kPagesAhead = 16 * 1024;  // bytes
  static constexpr int kLinesToOpen = 3;

  void enter(const RowList& list) {
    if (list.row_count == 0) {
      i_ = 0;
      next_row();
      return;
    }
    i_ = in_one_piece(list) ? list.row_count - 1 : 0;  // one long row, then
    at_ = last_ = row_address(list, 0);
    end_ = at_ + bytes_of_piece(list);
  }
  static bool in_one_piece(const RowList& list) { return list.rows == nullptr && list.bytes == list.row_bytes; }
  static index_t bytes_of_piece(const RowList& list) { return (in_one_piece(list) ? list.row_count : 1) * list.bytes; }
  /// Of what next_row() goes to: where nothing is left, any number, because the same lines are asked for again.
  index_t bytes_of_next_piece() const {
    if (list_ != nullptr && i_ + 1 < list_->row_count) return list_->bytes;
    return next_ != nullptr && next_->row_count > 0 ? bytes_of_piece(*next_) : kLots;
  }
  void next_row() {
    if (list_ != nullptr && ++i_ < list_->row_count) {
      at_ = row_address(*list_, i_);
      end_ = at_ + list_->bytes;
    } else if (next_ != nullptr && next_->row_count > 0) {
      list_ = next_;
      next_ = nullptr;
      enter(*list_);
    } else {  // nothing is left to ask for: the same line again and again
      list_ = next_ = nullptr;
      at_ = end_ = last_;
    }
    last_ = at_;
  }

  const RowList* list_;
  const RowList* next_;
  index_t i_ = 0, due_ = 0;
  const char* at_ = nullptr;
  const char* end_ = nullptr;
  const char* last_ = nullptr;
};

/// What a kernel of several passes reads next, a few KiB later, asked for into the first-level cache: of the rows that it reads now, the
/// lines as far from them in memory as its next rows are. One number, because there is no register for each row; so it is for
/// neighbouring rows only. Rows that are not there: none.
template <class L>
class RowsAfter {
 public:
  /// Element `column` of row i of the list is read after `now`, the first element of the first row that is read.
  template <class T>
  RowsAfter(const RowList& list, index_t i, index_t column, const T* now) {
    if (!L::asks_next || list.rows != nullptr || i >= list.row_count) return;
    bytes_ = row_address(list, i) + column * static_cast<index_t>(sizeof(T)) - reinterpret_cast<const char*>(now);
  }
  template <class T>
  void step(const T* now) const {
    if constexpr (L::asks_next) ask_for<1, 1>(reinterpret_cast<const char*>(now) + bytes_);
  }

 private:
  index_t bytes_ = 0;
};

/// Nothing.
struct NothingAfter {
  void step(const void*) const {}
};

}  // namespace
}  // namespace signsplit::cpu
