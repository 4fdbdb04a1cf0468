// Stored weights as vectors of f32 values, exactly: what the kernels read a matrix through.
#pragma once

#include "read_ahead.hpp"
#include "stored_types.hpp"

namespace signsplit::cpu {
namespace {

constexpr int kPartials = 64;

template <class T>
inline constexpr bool kScaled = sizeof(T) == 1;

template <class T>
inline const T* row_of(const RowList& list, index_t i) {
  return reinterpret_cast<const T*>(row_address(list, i));
}

template <class T>
inline bool share_scales(const AddRows& a, index_t first, index_t last) {
  return !kScaled<T> || a.group == 0 || row_number(a.list, first) / a.group == row_number(a.list, last) / a.group;
}

/// The weights of R rows of up or gate, `apart` rows from one to the next. Scaled types: one scale per row and group of K.
template <class L, class T, int R>
class InputRows {
 public:
  using V = typename L::vector;
  InputRows(const DotRows& a, index_t i, index_t apart = 1) : a_(a), i_(i), apart_(apart) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) w_[r] = row_of<T>(a.list, i + r * apart);
  }
  /// Makes the scales of element k current, and returns the first element that has others, or the end of the K tile.
  index_t enter_group(index_t k) {
    if constexpr (kScaled<T>) {
      const index_t group = a_.group == 0 ? 0 : (a_.k_begin + k) / a_.group;
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        s_[r] = L::broadcast(widen(a_.scales[row_number(a_.list, i_ + r * apart_) * a_.scale_stride + group]));
      }
      const index_t end = a_.group == 0 ? a_.k : (group + 1) * a_.group - a_.k_begin;
      return end < a_.k ? end : a_.k;
    } else {
      return a_.k;
    }
  }
  const T* address(int r, index_t k) const { return w_[r] + k; }
  V at(int r, index_t k) const {
    if constexpr (kScaled<T>) {
      return L::mul(L::load(w_[r] + k), s_[r]);
    } else {
      return L::load(w_[r] + k);
    }
  }

 private:
  const DotRows& a_;
  index_t i_, apart_;
  const T* w_[R];
  V s_[R];
};

/// The scales of `Count` vectors of columns from d on, for rows of down. Scaled types: one per column and group of rows.
template <class L, class T, int Count>
class ColumnScales {
 public:
  using V = typename L::vector;
  ColumnScales(const AddRows& a, index_t i, index_t d) {
    if constexpr (kScaled<T>) load(a, group_of(a, i), d);
  }
  /// Makes the scales of row i of the list current.
  void enter_row(const AddRows& a, index_t i, index_t d) {
    if constexpr (kScaled<T>) {
      if (const index_t group = group_of(a, i); group != group_) load(a, group, d);
    }
  }
  V apply(int v, V weight) const {
    if constexpr (kScaled<T>) {
      return L::mul(weight, s_[v]);
    } else {
      return weight;
    }
  }

 private:
  static index_t group_of(const AddRows& a, index_t i) { return a.group == 0 ? 0 : row_number(a.list, i) / a.group; }
  void load(const AddRows& a, index_t group, index_t d) {
    group_ = group;
#pragma GCC unroll 64
    for (int v = 0; v < Count; ++v) {
      s_[v] = L::load(reinterpret_cast<const Bf16*>(a.scales) + group * a.scale_stride + d + v * L::width);
    }
  }

  index_t group_ = 0;
  V s_[Count];
};

}  // namespace
}  // namespace signsplit::cpu
