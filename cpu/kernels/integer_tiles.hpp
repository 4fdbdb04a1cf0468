// The kernels of w8a8, once: I says what a vector of integers is. Internal linkage, as in tile_kernels.hpp.
#pragma once

#include "integer_kernels.hpp"
#include "read_ahead.hpp"
#include "stored_types.hpp"
#include "token_blocks.hpp"

namespace signsplit::cpu {
namespace {

/// One row against tokens [b, b + B): the row's bytes are loaded once for all of them.
template <class I, int B, class Step>
inline void dot_integers_block(const DotIntegers& a, index_t i, index_t b, Step&& step) {
  const Int8* w = reinterpret_cast<const Int8*>(row_address(a.list, i));
  const std::uint16_t* scales = a.scales + row_number(a.list, i) * a.groups;
  float sums[B] = {};
  for (index_t g = 0, k = 0; g < a.groups; ++g) {
    const index_t group_end = a.group == 0 ? a.elems : (g + 1) * a.group, end = group_end < a.elems ? group_end : a.elems;
    typename I::sums acc[B];
#pragma GCC unroll 8
    for (int t = 0; t < B; ++t) acc[t] = I::zero();
    for (; k < end; k += 64) {
      step();
      const typename I::weights wv = I::load_weights(w + k);
#pragma GCC unroll 8
      for (int t = 0; t < B; ++t) acc[t] = I::add_products(acc[t], wv, a.x + (b + t) * a.elems + k);
    }
#pragma GCC unroll 8
    for (int t = 0; t < B; ++t) {
      const std::int32_t exact = I::total(acc[t], a.x_sums[(b + t) * a.groups + g]);
      sums[t] = __builtin_fmaf(static_cast<float>(exact), widen(scales[g]), sums[t]);
    }
  }
  for (int t = 0; t < B; ++t) a.sums[i * a.batch + b + t] = sums[t];
}

template <class I>
void dot_integers(const DotIntegers& a) {
  ReadAhead<1> ahead(a.list, a.next, a.asked_bytes, kBytesAhead);
  if (a.batch == 1) {
    for (index_t i = 0; i < a.list.row_count; ++i) {
      ahead.template over<1>(a.list.bytes, [&](auto& steps) {
        dot_integers_block<I, 1>(a, i, 0, [&] { steps.template step<1>(0); });
      });
    }
    return;
  }
  index_t passes = 0;
  for_token_blocks<I>(a.batch, [&](auto, index_t) { ++passes; });
  for (index_t i = 0; i < a.list.row_count; ++i) {
    for_token_blocks<I>(a.batch, [&](auto size, index_t b) {
      auto steps = ahead.pace<1>(a.list.bytes, passes, a.list.bytes / 64);
      dot_integers_block<I, decltype(size)::value>(a, i, b, [&] { steps.step(); });
    });
  }
}

/// R rows at a time: a sum is loaded and stored once for R of them.
template <class I, int R, class Ahead>
inline void add_integers_block(const AddIntegers& a, index_t i, Ahead& ahead) {
  const Int8* w[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) w[r] = reinterpret_cast<const Int8*>(row_address(a.list, i + r));
  const std::int16_t* c = a.coefficients + i * a.batch;
  for (index_t k = 0; k < a.columns; k += 64) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) ahead.template step<1>(r);
    for (index_t d = k; d < k + 64; d += I::width) {
      typename I::vector wv[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) wv[r] = I::widen_weights(w[r] + d);
      for (index_t b = 0; b < a.batch; ++b) {
        std::int32_t* const at = a.sums + b * a.columns + d;
        typename I::vector sum = I::load(at);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) sum = I::add_product(sum, wv[r], c[r * a.batch + b]);
        I::store(at, sum);
      }
    }
  }
}

/// Two rows of 4 KiB lie within the distance of the cursor.
template <class I>
void add_integers(const AddIntegers& a) {
  ReadAhead<1> ahead(a.list, a.next, a.asked_bytes, kBytesAhead);
  index_t i = 0;
  for (; i + 2 <= a.list.row_count; i += 2) {
    ahead.template over<2>(2 * a.list.bytes, [&](auto& steps) { add_integers_block<I, 2>(a, i, steps); });
  }
  if (i < a.list.row_count) ahead.template over<1>(a.list.bytes, [&](auto& steps) { add_integers_block<I, 1>(a, i, steps); });
}

/// One FMA a value: the same in every instruction set, and too rare to be worth vectors of its own.
template <class I>
void scale_integers(const ScaleIntegers& a) {
  for (index_t b = 0; b < a.batch; ++b) {
    std::int32_t* const sums = a.sums + b * a.columns;
    float* const y = a.y + b * a.y_stride;
    for (index_t d = 0; d < a.columns; ++d) {
      y[d] = __builtin_fmaf(static_cast<float>(sums[d]), widen(a.scales[d]), y[d]);
      sums[d] = 0;
    }
  }
}

template <class I>
constexpr IntegerKernels make_integer_kernels() {
  return {dot_integers<I>, add_integers<I>, scale_integers<I>};
}

}  // namespace
}  // namespace signsplit::cpu
