// The kernels of restored_kernels.hpp, once for all instruction sets. L is a Lanes type; P says what a vector of L::width weights is
// as bits of f32:
//   bits                             such a vector
//   plane(q, scale)                  scale·q
//   differences<T>(row, columns, k)  shifted to where the bits of T end
//   weights(p)                       stored ones
//   masked<T>(v), add(a, b), store(p, v)
// Everything has internal linkage: each instruction set instantiates its own.
#pragma once

#include "dot_kernels.hpp"
#include "restored_kernels.hpp"

namespace signsplit::cpu {
namespace {

/// Low bits of an f32 that weights of the type do not use.
template <class T>
constexpr int kShift = sizeof(T) == 4 ? 0 : 16;
template <>
constexpr int kShift<F16> = 13;

/// Escapes take the place of what was restored for them.
template <class L, class P, class T>
inline void put_escapes(const unsigned char* row, const RestoredDot& a, float* out) {
  const auto* positions = reinterpret_cast<const std::uint16_t*>(row + a.positions_offset);
  const auto* escapes = reinterpret_cast<const T*>(row + a.escapes_offset);
  const int count = positions[0];
  alignas(64) float some[L::width];
  for (int first = 0; first <= count; first += L::width) {
    P::store(some, P::weights(escapes + first));
    const int end = count - first < L::width - 1 ? count - first : L::width - 1;
    for (int i = first == 0 ? 1 : 0; i <= end; ++i) out[positions[first + i]] = some[i];
  }
}

/// Row i of the list; meanwhile asks for the bytes of a row at `ahead`.
template <class L, class P, class T>
inline void restore_row(const RestoredDot& a, index_t i, const char* ahead, float* out) {
  constexpr int lines = sizeof(T) == 4 ? 3 : 1;  // of differences that 64 columns have
  const auto* row = reinterpret_cast<const unsigned char*>(row_address(a.list, i));
  const signed char* plane = a.planes + i * a.columns;
  const std::uint16_t* scale = a.scales + i * a.groups;
  for (index_t k = 0; k < a.columns;) {
    const auto s = L::broadcast(widen(*scale++));
    const index_t end = k + a.group < a.columns ? k + a.group : a.columns;
    for (; k < end; k += kPartials) {
#pragma GCC unroll 3
      for (int line = 0; line < lines; ++line) __builtin_prefetch(ahead + lines * k + 64 * line);
#pragma GCC unroll 8
      for (int v = 0; v < kPartials; v += L::width) {
        P::store(out + k + v, P::add(P::template masked<T>(P::plane(plane + k + v, s)),
                                     P::template differences<T>(row, a.columns, k + v)));
      }
    }
  }
  for (index_t at = lines * a.columns; at < a.list.bytes; at += 64) __builtin_prefetch(ahead + at);
  put_escapes<L, P, T>(row, a, out);
}

template <class L, class P, class T>
inline void copy_raw_row(const RestoredDot& a, index_t number, float* out) {
  const T* from = static_cast<const T*>(a.raw) + number * a.columns;
  for (index_t k = 0; k < a.columns; k += L::width) P::store(out + k, P::weights(from + k));
}

template <class L, class P, class T>
void dot_restored(const RestoredDot& a) {
  const index_t count = a.list.row_count, distance = restored_rows_ahead(a.list.bytes);
  for (index_t i = 0; i < distance && i < count; ++i) {
    const char* row = row_address(a.list, i);
    for (index_t at = i == 0 ? a.asked_bytes : 0; at < a.list.bytes; at += 64) __builtin_prefetch(row + at);
  }
  const char* const after = a.next.row_count > 0 ? row_address(a.next, 0) : nullptr;
  for (index_t i = 0; i < count; i += restored_rows(a.batch)) {
    const index_t block = count - i < restored_rows(a.batch) ? count - i : restored_rows(a.batch);
    for (index_t r = i; r < i + block; ++r) {
      float* const out = a.rows + (r - i) * a.columns;
      const std::int32_t raw = a.raw_numbers == nullptr ? -1 : a.raw_numbers[row_number(a.list, r)];
      if (raw >= 0) {
        copy_raw_row<L, P, T>(a, raw, out);
        continue;
      }
      const index_t later = r + distance;
      const char* ahead = later < count ? row_address(a.list, later) : row_address(a.list, r);
      if (later >= count && after != nullptr && (later - count) * a.list.bytes < a.next.bytes) {
        ahead = after + (later - count) * a.list.bytes;
      }
      restore_row<L, P, T>(a, r, ahead, out);
    }
    const index_t row_bytes = a.columns * static_cast<index_t>(sizeof(float));
    const RowList rows{a.rows, row_bytes, row_bytes, nullptr, 0, block}, none;
    const DotRows dot{rows, none, row_bytes, a.x, a.columns, a.packed_x, a.batch, a.columns, true, true, nullptr,
                      a.sums + i * a.batch, nullptr, nullptr, 0, 0, 0};
    if (a.batch > 1) {
      dot_rows<L, float>(dot);
    } else {
      NothingAhead nothing;
      dot_block<L, float, 1>(dot, 0, 1, nothing);
    }
  }
}

template <class L, class P>
constexpr RestoredKernels make_restored_kernels() {
  return {{dot_restored<L, P, float>, dot_restored<L, P, Bf16>, dot_restored<L, P, F16>}};
}

}  // namespace
}  // namespace signsplit::cpu
