// Rows that lie apart, one token: the few that a certificate or a closed gate has left of a matrix.
//
// One such row after the other is slow however far ahead it is asked for. Each begins with two misses in the TLB, whose walks end
// in DRAM where the host backs huge pages with small ones; a prefetch that waits for its walk does not retire, and what stands
// behind it is not asked for either. So several rows are read at once, each asking for its own bytes a little ahead:
// the walks overlap. Measured on a 2-core Zen 5 virtual machine, dot products of 17 % of 16384 rows of 8 KiB in DRAM, while plain reads
// of a stream gave 75 GB/s: one row at a time with a cursor 8 KiB ahead 48 GB/s, two rows 2 or 4 KiB ahead 54, three 2 KiB ahead
// 57, four 1 or 2 KiB ahead 58, four 1.5 KiB ahead 6 % faster than those, four 0.5 KiB ahead 14 % slower, six 1 KiB ahead 56. While they
// gave 45: four 2 KiB ahead 37, four 1 KiB ahead 40. What did not help: touching the pages of the next 16 rows at once, all of a row's
// lines into the second level, other orders of lines than the ascending one. The hardware asks for 8 lines beyond the end of
// every row, 6 % of 8 KiB, in vain.
#pragma once

#include "add_kernels.hpp"
#include "dot_kernels.hpp"

namespace signsplit::cpu {
namespace {

/// Piece i of what is asked for before it is used: the first kPieceBytes of row i of the list, and after its last row those of
/// `next`, or where that is one stretch of addresses, its i-th piece.
inline const char* piece_address(const RowList& list, const RowList& next, index_t i) {
  if (i < list.row_count) return row_address(list, i);
  const index_t beyond = i - list.row_count;
  if (next.row_count == 0) return static_cast<const char*>(list.matrix);
  if (next.rows == nullptr) return row_address(next, 0) + beyond * kPieceBytes;
  return row_address(next, beyond < next.row_count ? beyond : next.row_count - 1);
}

/// Asks for R rows while they are read, each a piece ahead, and in their last steps for the pieces that come after them. Inlined by
/// force, so that it lives in registers.
template <int R>
class PiecesAhead {
 public:
  __attribute__((always_inline)) PiecesAhead(const RowList& list, const RowList& next, index_t i)
      : list_(list), next_(next), i_(i), left_(list.bytes - kPieceBytes) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) at_[r] = row_address(list, i + r) + kPieceBytes;
  }
  template <int Lines>
  __attribute__((always_inline)) void step(int row) {
    if (row == 0) {
      if (left_ == 0) turn();
      left_ -= Lines * 64;
    }
    ask_for<1, Lines>(at_[row]);
    at_[row] += Lines * 64;
  }

 private:
  __attribute__((always_inline)) void turn() {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) at_[r] = piece_address(list_, next_, i_ + kRowsAtOnce + r);
  }

  const RowList &list_, &next_;
  const index_t i_;
  index_t left_;  // bytes of each row that are not asked for yet
  const char* at_[R];
};

/// The pieces that no call before has asked for, or has: asking twice costs little.
__attribute__((always_inline)) inline void ask_first_pieces(const RowList& list, const RowList& next) {
  for (index_t i = 0; i < kRowsAtOnce; ++i) {
    const char* const piece = piece_address(list, next, i);
    for (index_t at = 0; at < kPieceBytes; at += 64) ask_for<1, 1>(piece + at);
  }
}

/// Calls group(first row, number of rows as a constant) for the rows by four, then two, one.
template <class Group>
inline void for_rows_at_once(index_t count, Group&& group) {
  static_assert(kRowsAtOnce == 4);
  index_t i = 0;
  for (; i + 4 <= count; i += 4) group(i, Constant<4>{});
  if (i + 2 <= count) group(i, Constant<2>{}), i += 2;
  if (i < count) group(i, Constant<1>{});
}

/// dot_rows, with rows that lie apart taken so that the memory gives them fast: whole rows, if all their sums fit the registers.
template <class L, class T>
void dot_any_rows(const DotRows& a) {
  constexpr bool in_registers = kRowsAtOnce * (kPartials / L::width) <= 16;
  if (!in_registers || a.batch > 1 || !are_apart(a.list)) {
    dot_rows<L, T>(a);
    return;
  }
  ask_first_pieces(a.list, a.next);
  for_rows_at_once(a.list.row_count, [&](index_t i, auto rows) {
    PiecesAhead<decltype(rows)::value> ahead(a.list, a.next, i);
    dot_block<L, T, decltype(rows)::value>(a, i, 1, ahead);
  });
}

/// add_rows, likewise. Of scaled types, rows that all share their scales.
template <class L, class T>
void add_any_rows(const AddRows& a) {
  if (L::width == 1 || a.batch > 1 || (kScaled<T> && a.group != 0) || !are_apart(a.list)) {
    add_rows<L, T>(a);
    return;
  }
  ask_first_pieces(a.list, a.next);
  for_rows_at_once(a.list.row_count, [&](index_t i, auto rows) {
    PiecesAhead<decltype(rows)::value> ahead(a.list, a.next, i);
    add_block<L, T, decltype(rows)::value>(a, i, ahead);
  });
}

}  // namespace
}  // namespace signsplit::cpu
