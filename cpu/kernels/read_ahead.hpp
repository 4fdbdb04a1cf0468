// The stream of weights, asked for ahead of its use: across rows, from one list of rows into the next.
//
// The hardware's prefetchers start anew at every row and page, and do not know which row of another matrix is next. Measured
// on a 2-core Zen 5 virtual machine, one token, layers in DRAM, in parts of the bandwidth of plain loads: one row at a time
// with this cursor 8 KiB ahead 0.97 to 1.0 while the two cores together read 50 GB/s, and 0.88 in moments in which they
// read 90 GB/s. 4 KiB ahead: 0.99 and 0.75; 16 KiB and more: 0.96 and less. Four rows at once without a cursor: 0.87; two or
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

/// A stretch of addresses without a bend, to be asked for step by step. Small enough to live in a register: the cursor below
/// lives in memory, and a kernel that moves it at every step took 1.3 times as long from the last-level cache (bf16, rows of
/// 768 elements).
template <int Level>
class Stretch {
 public:
  explicit Stretch(const char* at) : at_(at) {}
  template <int Lines>
  void step() {
#pragma GCC unroll 8
    for (int i = 0; i < Lines; ++i) __builtin_prefetch(at_ + i * 64, 0, 4 - Level);
    at_ += Lines * 64;
  }

 private:
  const char* at_;
};

/// Walks over `list`, then `next`, a fixed distance ahead of the kernel that reads them. Level: the cache that is filled.
template <int Level>
class ReadAhead {
 public:
  /// The first `asked_bytes` of the list were asked for by the kernel before; asks for the others up to the distance.
  ReadAhead(const RowList& list, const RowList& next, index_t asked_bytes, index_t distance_bytes)
      : list_(&list), next_(&next) {
    enter(list);
    index_t left = asked_bytes < distance_bytes ? asked_bytes : distance_bytes;
    const index_t burst = distance_bytes - left;
    while (list_ != nullptr && left >= end_ - at_) {
      left -= end_ - at_;
      next_row();
    }
    at_ += left;
    for (index_t bytes = 0; bytes < burst; bytes += kLine) step<1>();
  }

  /// Asks for the next `Lines` cache lines. Rows must be whole multiples of them.
  template <int Lines>
  void step() {
#pragma GCC unroll 8
    for (int i = 0; i < Lines; ++i) __builtin_prefetch(at_ + i * kLine, 0, 4 - Level);
    at_ += Lines * kLine;
    if (at_ >= end_) next_row();
  }

  /// Calls read(something with step) for a kernel that will move the cursor by `bytes` in all: a Stretch where they lie in
  /// one piece, else the cursor itself.
  template <class Read>
  void over(index_t bytes, Read&& read) {
    if (end_ - at_ < bytes) {
      read(*this);
      return;
    }
    Stretch<Level> stretch(at_);
    at_ += bytes;
    if (at_ == end_) next_row();
    read(stretch);
  }

  /// For kernels that read a block of rows in several passes: every pass counts the bytes that it reads, and the cursor
  /// moves on by their `passes`-th part.
  void step_shared(index_t bytes, index_t passes) {
    due_ += bytes;
    while (due_ >= passes * kLine) {
      due_ -= passes * kLine;
      step<1>();
    }
  }

 private:
  static constexpr index_t kLine = 64;  // bytes

  void enter(const RowList& list) {
    if (list.row_count == 0) {
      i_ = 0;
      next_row();
      return;
    }
    const bool in_one_piece = list.rows == nullptr && list.bytes == list.row_bytes;  // one long row, then
    i_ = in_one_piece ? list.row_count - 1 : 0;
    at_ = last_ = row_address(list, 0);
    end_ = at_ + (in_one_piece ? list.row_count : 1) * list.bytes;
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

}  // namespace
}  // namespace signsplit::cpu
