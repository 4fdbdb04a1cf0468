// The upper levels of the tree over the 64 partial sums of a dot product, as vectors, and its lower ones, lane by lane.
#pragma once

#include "signsplit/portability.hpp"

namespace signsplit::cpu {
namespace {

/// Folds `count` vectors, upper half onto lower: the upper levels of the 64-partial tree. Inlined by force: called, it takes
/// the sums through memory for every row (2 to 5 % of a cache-resident call, 768x3072 bf16).
template <class L, int Count>
__attribute__((always_inline)) inline typename L::vector fold_to_vector(typename L::vector (&v)[Count]) {
#pragma GCC unroll 8
  for (int half = Count / 2; half >= 1; half /= 2) {
#pragma GCC unroll 64
    for (int i = 0; i < half; ++i) v[i] = L::add(v[i], v[i + half]);
  }
  return v[0];
}
/// And then the lanes.
template <class L, int Count>
__attribute__((always_inline)) inline float fold_vectors(typename L::vector (&v)[Count]) {
  return L::fold(fold_to_vector<L>(v));
}

/// The lanes of L::width vectors, one after the other in aligned memory, folded together: a third of the operations.
template <class L>
inline void fold_lanes(const float* vectors, float* folded) {
  typename L::vector row[L::width];
#pragma GCC unroll 16
  for (int n = 0; n < L::width; ++n) row[n] = L::load_aligned(vectors + n * L::width);
  L::store_aligned(folded, L::fold_all(row));
}

/// Sums of B tokens and row after row, folded together for as many rows as give a vector of sums.
template <class L, int B>
class FoldLater {
 public:
  explicit FoldLater(float* sums) : sums_(sums) {}
  FoldLater(const FoldLater&) = delete;
  FoldLater& operator=(const FoldLater&) = delete;
  ~FoldLater() { flush(); }
  /// Of token t of the row.
  void take(int t, typename L::vector folded) { L::store_aligned(kept_[held_ + t], folded); }
  void end_row() {
    held_ += B;
    if (held_ + B > L::width) flush();
  }

 private:
  void flush() {
    alignas(64) float folded[L::width];
    fold_lanes<L>(kept_[0], folded);
    for (int n = 0; n < held_; ++n) sums_[n] = folded[n];
    sums_ += held_;
    held_ = 0;
  }

  float* sums_;
  int held_ = 0;
  alignas(64) float kept_[L::width][L::width] = {};
};

}  // namespace
}  // namespace signsplit::cpu
