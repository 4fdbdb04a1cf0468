// Product 1 of several tokens, in the canonical order of each. x is packed in the order in which the kernels read it.
#pragma once

#include "fold.hpp"
#include "token_blocks.hpp"
#include "weight_lanes.hpp"

namespace signsplit::cpu {
namespace {

/// Row i of the list and all B tokens, with all partial sums in registers.
template <class L, class T, int B, class Ahead>
inline void dot_row_of_tokens(const DotRows& a, index_t i, Ahead requests, FoldLater<L, B>& sums) {
  constexpr int count = kPartials / L::width;
  typename L::vector acc[B][count];
  float* const partials = a.partials + i * B * kPartials;
#pragma GCC unroll 4
  for (int t = 0; t < B; ++t) {
#pragma GCC unroll 64
    for (int v = 0; v < count; ++v) acc[t][v] = a.first ? L::zero() : L::load(partials + t * kPartials + v * L::width);
  }
  InputRows<L, T, 1> row(a, i);
  const float* x = a.packed_x + a.k_begin * B;
  for (index_t k = 0; k < a.k;) {
    const index_t end = row.enter_group(k);
    for (; k < end; k += kPartials, x += kPartials * B) {
#pragma GCC unroll 64
      for (int v = 0; v < count; ++v) {
        const typename L::vector w = row.at(0, k + v * L::width);
#pragma GCC unroll 4
        for (int t = 0; t < B; ++t) {
          requests.step(v * B + t, count * B);
          acc[t][v] = L::fma(L::load_aligned(x + (v * B + t) * L::width), w, acc[t][v]);
        }
      }
    }
  }
  if (a.last) {
#pragma GCC unroll 4
    for (int t = 0; t < B; ++t) {
      typename L::vector of_token[count];  // a copy: else all sums stay in memory
#pragma GCC unroll 64
      for (int v = 0; v < count; ++v) of_token[v] = acc[t][v];
      sums.take(t, fold_to_vector<L>(of_token));
    }
    sums.end_row();
  } else {
#pragma GCC unroll 4
    for (int t = 0; t < B; ++t) {
#pragma GCC unroll 64
      for (int v = 0; v < count; ++v) L::store_aligned(partials + t * kPartials + v * L::width, acc[t][v]);
    }
  }
}

/// All B tokens, whose x stays in the first-level cache: one row after the other. The rows are one stream, as with one token.
template <class L, class T, int B>
inline void dot_rows_in_order(const DotRows& a) {
  constexpr int lines = sizeof(T);
  ReadAhead<1> ahead(a.list, a.next, a.asked_bytes, ahead_bytes(B, sizeof(T), a.x_stride, tokens_in_registers<L>()));
  FoldLater<L, B> sums(a.sums);
  for (index_t i = 0; i < a.list.row_count; ++i) {
    if (a.from_memory) ahead.open_pages(a.list.bytes);  // 4 tokens, fast memory: 0.985 of the time
    ahead.template pace_over<lines>(a.list.bytes, a.k / kPartials, [&](auto requests) { dot_row_of_tokens<L, T>(a, i, requests, sums); });
  }
}

// More tokens, or longer rows. A weight that is loaded and converted serves B tokens, R rows × B tokens at a time; where their 64
// partial sums do not fit into the registers, the rows are gone over in passes of V vectors of partial sums each. A slice of x stays
// in the first-level cache while a group of rows goes by: reading x as it is from the second level took twice the time (8 tokens).

/// Vectors of partial sums per pass.
template <class L, int B>
constexpr int pass_vectors() {
  int vectors = kPartials / L::width;
  while (vectors > 1 && L::dot_rows(B) * B * vectors > L::accumulators) vectors /= 2;
  return vectors;
}
template <class L, int B>
constexpr int pass_count() {
  return kPartials / L::width / pass_vectors<L, B>();
}

/// Token blocks one after the other; in each [pass][64-element block of K][V][B][lanes].
template <class L>
void pack_x(const PackX& a) {
  for_token_blocks<L>(a.batch, [&](auto size, index_t b) {
    constexpr int B = decltype(size)::value, V = pass_vectors<L, B>();
    float* to = a.packed + b * a.elems;
    for (int from = 0; from < kPartials; from += V * L::width) {
      for (index_t k = from; k < a.elems; k += kPartials) {
        for (int v = 0; v < V; ++v) {
          for (int t = 0; t < B; ++t, to += L::width) {
            L::store_aligned(to, L::load(a.x + (b + t) * a.elems + k + v * L::width));
          }
        }
      }
    }
  });
}

/// Rows whose partial sums are in progress at once: enough to use a slice of x often, few enough that they stay in the
/// second-level cache. What is read ahead is a group, or more.
constexpr int group_rows(index_t batch, index_t bytes) { return batch > 8 && bytes <= 4 * 1024 ? 48 : 24; }
constexpr int kGroupRows = 48;  // at most

/// Where the sums of a group of rows are while they are in progress: [pass][row, token][V][lanes].
template <class L, int B>
constexpr int kPassElems = kGroupRows * B * pass_vectors<L, B>() * L::width;

/// Passes in the order in which the tree over the partial sums needs them: 0, 2, 1, 3 of four.
template <class L, int B>
constexpr int pass_of(int n) {
  int pass = 0;
  for (int bit = 1, half = pass_count<L, B>() / 2; half >= 1; bit *= 2, half /= 2) pass += (n & bit) != 0 ? half : 0;
  return pass;
}

/// The end of the n-th of the last passes over R rows, from `row` of the group on: adds to its sums those that stand in memory, `Levels` levels
/// up the tree, and the last pass leaves one vector of each sum: [row, token][lanes]. When all 64 partial sums went through memory to a
/// tree of their own, that took 1.12 to 1.2 times the time (8 tokens, bf16 rows of 2048 and 1024 weights from the second-level cache).
template <int Levels, class L, int R, int B>
__attribute__((always_inline)) inline void finish_pass(int n, typename L::vector (&acc)[R][B][pass_vectors<L, B>()], float* sums, index_t row) {
  constexpr int V = pass_vectors<L, B>();
  constexpr bool complete = 1 << Levels == pass_count<L, B>();
  float* const own = sums + row * B * V * L::width;
  const float* lower[Levels + 1];
#pragma GCC unroll 4
  for (int level = 0; level < Levels; ++level) {
    lower[level] = own + pass_of<L, B>(n + 1 - (2 << level)) * kPassElems<L, B>;
    asm("" : "+r"(lower[level]));
  }
  float* to = complete ? sums + row * B * L::width : own + pass_of<L, B>(n + 1 - (1 << Levels)) * kPassElems<L, B>;
  asm("" : "+r"(to));
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int t = 0; t < B; ++t) {
      typename L::vector of_token[V];
#pragma GCC unroll 64
      for (int v = 0; v < V; ++v) {
        of_token[v] = acc[r][t][v];
#pragma GCC unroll 4
        for (int level = 0; level < Levels; ++level) {
          of_token[v] = L::add(L::load_aligned(lower[level] + ((r * B + t) * V + v) * L::width), of_token[v]);
        }
      }
      if constexpr (complete) {
        L::store_aligned(to + (r * B + t) * L::width, fold_to_vector<L>(of_token));
      } else {
#pragma GCC unroll 64
        for (int v = 0; v < V; ++v) L::store_aligned(to + ((r * B + t) * V + v) * L::width, of_token[v]);
      }
    }
  }
}

/// The n-th pass over elements [begin, end) of R rows × B tokens, from row i of the list, `row` of the group, on: sums of the group go on, or
/// begin with the K tile that is the first. `after`: what the next pass reads, which is by then in the second-level cache.
template <class L, class T, int R, int B, class Ahead, class After>
inline void dot_pass(const DotRows& a, index_t i, index_t row, index_t b, int n, index_t begin, index_t end, float* sums, Ahead ahead,
                     After after) {
  using Vector = typename L::vector;
  constexpr int V = pass_vectors<L, B>(), lines = (V * L::width * static_cast<int>(sizeof(T)) + 63) / 64;  // of a row and step
  const int pass = pass_of<L, B>(n), column = pass * V * L::width;
  float* own = sums + pass * kPassElems<L, B> + row * B * V * L::width;
  asm("" : "+r"(own));  // or the compiler has a pointer for each of R * B * V sums, in memory
  const float* x = a.packed_x + b * a.x_stride + (pass * (a.x_stride / kPartials) + (a.k_begin + begin) / kPartials) * (V * B * L::width);
  Vector acc[R][B][V];
  const bool fresh = a.first && begin == 0;
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int t = 0; t < B; ++t) {
#pragma GCC unroll 64
      for (int v = 0; v < V; ++v) acc[r][t][v] = fresh ? L::zero() : L::load_aligned(own + ((r * B + t) * V + v) * L::width);
    }
  }
  InputRows<L, T, R> rows(a, i);
  for (index_t k = begin; k < end;) {
    const index_t group_end = rows.enter_group(k), stop = group_end < end ? group_end : end;
    for (; k < stop; k += kPartials, x += V * B * L::width) {
#pragma GCC unroll 64
      for (int v = 0; v < V; ++v) {
        Vector w[R];
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) w[r] = rows.at(r, k + column + v * L::width);
#pragma GCC unroll 8
        for (int t = 0; t < B; ++t) {
          ahead.step(v * B + t, V * B);
#pragma GCC unroll 16
          for (int line = 0; line < R * lines; ++line) {
            const int in_row = line / R * 64 / static_cast<int>(sizeof(T));
            if (v * B + t == (2 * line + 1) * V * B / (2 * R * lines)) after.step(rows.address(line % R, k + column + in_row));
          }
          const Vector xv = L::load_in_place(x + (v * B + t) * L::width);
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) L::fma_in_place(xv, w[r], acc[r][t][v]);
        }
      }
    }
  }
  if (a.last && end == a.k) {
    constexpr int all = pass_count<L, B>();
    if constexpr (all >= 8) {
      if ((n & 7) == 7) return finish_pass<3, L, R, B>(n, acc, sums, row);
    }
    if constexpr (all >= 4) {
      if ((n & 3) == 3) return finish_pass<2, L, R, B>(n, acc, sums, row);
    }
    if constexpr (all >= 2) {
      if ((n & 1) == 1) return finish_pass<1, L, R, B>(n, acc, sums, row);
    }
    return finish_pass<0, L, R, B>(n, acc, sums, row);
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int t = 0; t < B; ++t) {
#pragma GCC unroll 64
      for (int v = 0; v < V; ++v) L::store_aligned(own + ((r * B + t) * V + v) * L::width, acc[r][t][v]);
    }
  }
}

/// Calls each(vector of a's partial sums, the same of a group's sums) for `count` rows from row i on and tokens [b, b + B).
template <class L, int B, class Each>
inline void for_sum_vectors(const DotRows& a, index_t i, int count, index_t b, float* sums, Each&& each) {
  constexpr int V = pass_vectors<L, B>();
  for (int s = 0; s < count * B; ++s) {
    float* const kept = a.partials + ((i + s / B) * a.batch + b + s % B) * kPartials;
    for (int n = 0; n < kPartials / L::width; ++n) each(kept + n * L::width, sums + n / V * kPassElems<L, B> + (s * V + n % V) * L::width);
  }
}

/// `count` rows from row i of the list on, against tokens [b, b + B).
template <class L, class T, int B>
inline void dot_group(const DotRows& a, index_t i, int count, index_t b, ReadAhead<2>& ahead, index_t passes) {
  constexpr int all = pass_count<L, B>(), R = L::dot_rows(B), V = pass_vectors<L, B>();
  constexpr index_t slice_elems = kSliceElems<B> * all;  // of K: 16 KiB of x per pass
  alignas(64) float sums[all * kPassElems<L, B>];
  if (!a.first) for_sum_vectors<L, B>(a, i, count, b, sums, [](const float* kept, float* sum) { L::store_aligned(sum, L::load(kept)); });
  const auto pace = [&](auto rows, index_t elems) {
    constexpr int bytes = decltype(rows)::value * static_cast<int>(sizeof(T)), lines = (bytes * V * L::width + 63) / 64;
    return ahead.pace<lines>(bytes * elems, passes, elems / kPartials);
  };
  for (index_t begin = 0; begin < a.k; begin += slice_elems) {
    const index_t end = begin + slice_elems < a.k ? begin + slice_elems : a.k;
    for (int n = 0; n < all; ++n) {
      const auto after = [&](int r, int rows) {
        if constexpr (B > 4) {  // the core is the limit, and in slow memory alone it would gain 3 %
          return NothingAfter{};
        } else {
          const bool more = r + rows < count, again = more || n + 1 < all;
          const index_t column = again ? begin : end < a.k ? end : 0, row = more ? i + r + rows : again || end < a.k ? i : i + count;
          const int pass = pass_of<L, B>(n), next = more ? pass : n + 1 < all ? pass_of<L, B>(n + 1) : 0;
          return RowsAfter<L>(a.list, row, column + next * V * L::width, row_of<T>(a.list, i + r) + begin + pass * V * L::width);
        }
      };
      int r = 0;
      for (; r + R <= count; r += R) {
        dot_pass<L, T, R, B>(a, i + r, r, b, n, begin, end, sums, pace(Constant<R>{}, end - begin), after(r, R));
      }
      for (; r < count; ++r) {
        dot_pass<L, T, 1, B>(a, i + r, r, b, n, begin, end, sums, pace(Constant<1>{}, end - begin), after(r, 1));
      }
    }
  }
  if (!a.last) {
    for_sum_vectors<L, B>(a, i, count, b, sums, [](float* kept, const float* sum) { L::store_aligned(kept, L::load_aligned(sum)); });
    return;
  }
  for (int s = 0; s < count * B; s += L::width) {  // beyond the last: what is there, to no purpose
    alignas(64) float folded[L::width];
    fold_lanes<L>(sums + s * L::width, folded);
    if constexpr (L::width % B == 0) {
      for (int r = s / B; r < count && r < (s + L::width) / B; ++r) {
        __builtin_memcpy(a.sums + (i + r) * a.batch + b, folded + (r - s / B) * B, B * sizeof(float));
      }
    } else {
      for (int n = 0; n < L::width && s + n < count * B; ++n) a.sums[(i + (s + n) / B) * a.batch + b + (s + n) % B] = folded[n];
    }
  }
}

template <class L, class T>
inline void dot_rows_of_batch(const DotRows& a) {
  ReadAhead<2> ahead(a.list, a.next, a.asked_bytes, ahead_bytes(a.batch, sizeof(T), a.x_stride, tokens_in_registers<L>()));
  index_t passes = 0;  // that go over a row: together they move the cursor by that row
  for_token_blocks<L>(a.batch, [&](auto size, index_t) { passes += pass_count<L, decltype(size)::value>(); });
  const int rows = group_rows(a.batch, a.list.bytes);
  for (index_t i = 0; i < a.list.row_count; i += rows) {
    const int count = a.list.row_count - i < rows ? static_cast<int>(a.list.row_count - i) : rows;
    for_token_blocks<L>(a.batch, [&](auto size, index_t b) { dot_group<L, T, decltype(size)::value>(a, i, count, b, ahead, passes); });
  }
}

}  // namespace
}  // namespace signsplit::cpu
