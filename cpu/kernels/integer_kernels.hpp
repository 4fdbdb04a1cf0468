// The interface of the kernels of w8a8: int8 times int8, exact in int32, the same in every instruction set.
#pragma once

#include "kernel_table.hpp"

namespace signsplit::cpu {

/// sums[i][b] = chain over the groups g of row i, ascending: sum = fma(float(A_g), scale_g, sum), from +0, where A_g is the
/// exact sum of w·x over the group's elements.
struct DotIntegers {
  const RowList& list;        ///< whole rows of int8
  const RowList& next;
  index_t asked_bytes;
  const signed char* x;       ///< [batch, elems], zero-padded
  const std::int32_t* x_sums; ///< [batch, groups]: the sum of a token's x over each group
  index_t batch;
  index_t elems;              ///< a multiple of 64
  const std::uint16_t* scales;  ///< bfloat16 bits [F, groups]
  index_t groups;             ///< per row
  index_t group;              ///< elements, a multiple of 64; 0: the whole row
  float* sums;                ///< [row_count, batch]
};

/// sums[b] += Σ_i coefficients[i][b] · row i of the list.
struct AddIntegers {
  const RowList& list;
  const RowList& next;
  index_t asked_bytes;
  const std::int16_t* coefficients;  ///< [row_count, batch], each in [−127, 127]
  std::int32_t* sums;         ///< [batch, columns], 64-byte aligned
  index_t batch;
  index_t columns;            ///< a multiple of 64
};

/// y[b] = fma(float(sums[b]), scales, y[b]), and sums = 0.
struct ScaleIntegers {
  std::int32_t* sums;         ///< [batch, columns]
  const std::uint16_t* scales;  ///< bfloat16 bits [columns]
  float* y;                   ///< [batch, y_stride], 64-byte aligned
  index_t y_stride, batch, columns;
};

struct IntegerKernels {
  void (*dot)(const DotIntegers&);
  void (*add)(const AddIntegers&);
  void (*scale)(const ScaleIntegers&);
};

extern const IntegerKernels integers_scalar;
extern const IntegerKernels integers_avx2;
extern const IntegerKernels integers_avx512;
extern const IntegerKernels integers_avx512vnni;

}  // namespace signsplit::cpu
