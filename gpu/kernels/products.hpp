// The two products on the rows of one stage. docs/exactness.md states the orders of addition kept here.
#pragma once

#include "shared_state.hpp"
#include "weight_types.hpp"

namespace signsplit::gpu {

/// Partial sums of 4 rows × T tokens, or of one row × 4 blocks of T tokens: lane l keeps partials 2l and 2l + 1 of each.
inline constexpr int kBlockRows = 4;
template <int T>
using Partials = Registers<Pack<float, 2>, kBlockRows * T>;

/// int8: bfloat16 scales [rows][groups]. For the other types nothing is read from here.
struct RowScales {
  const std::uint16_t* scales = nullptr;
  int groups = 1;  ///< per row
  int group = 0;   ///< columns per scale, a multiple of 64; 0: one scale for all columns

  /// The scale of a row at a column.
  [[nodiscard]] SIGNSPLIT_DEVICE const std::uint16_t* at(int row, int column) const {
    return scales + static_cast<index_t>(row) * groups + (group == 0 ? 0 : column / group);
  }
};

/// Two neighbouring weights of a row as f32.
template <class Weight, class Block>
SIGNSPLIT_DEVICE Pack<float, 2> load_two(Block& block, const typename Weight::Stored* at) {
  const auto stored = block.load(reinterpret_cast<const Pack<typename Weight::Stored, 2>*>(at));
  return {{Weight::widen(stored.v[0]), Weight::widen(stored.v[1])}};
}

/// The row's weights times its scale: exact, because a scale has 8 significant bits and an int8 weight 7.
template <class Weight, class Block>
SIGNSPLIT_DEVICE Pack<float, 2> scale_two(Block& block, Pack<float, 2> w, const RowScales& scales, int row, int column) {
  if constexpr (Weight::scaled) {
    const float scale = WeightBf16::widen(block.load(scales.at(row, column)));
    return {{w.v[0] * scale, w.v[1] * scale}};
  } else {
    return w;
  }
}

SIGNSPLIT_DEVICE void multiply_add(Pack<float, 2>& sum, Pack<float, 2> x, Pack<float, 2> w) {
  sum.v[0] = fused_multiply_add(x.v[0], w.v[0], sum.v[0]);
  sum.v[1] = fused_multiply_add(x.v[1], w.v[1], sum.v[1]);
}

/// Keeps the bits of `mask`: all, or all but the sign.
SIGNSPLIT_DEVICE Pack<float, 2> masked(Pack<float, 2> v, std::uint32_t mask) {
  return {{float_of(bits_of(v.v[0]) & mask), float_of(bits_of(v.v[1]) & mask)}};
}
inline constexpr std::uint32_t kAllBits = 0xffffffffu, kMagnitude = 0x7fffffffu;

/// Adds the columns of a chunk, k ascending, to the partials of 4 of its rows × T tokens. `row_at(i)` is the place of the
/// i-th row in the stage, `unit_of(i)` its unit; the last row may be repeated. x: first column, first token. mask kMagnitude
/// sums |x||w| instead.
template <class Weight, int T, class Block, class Sums, class RowAt, class UnitOf>
SIGNSPLIT_DEVICE void add_rows_partials(Block& block, const Chunk& chunk, const typename Weight::Stored* stage,
                                        const float* x, int x_stride, const RowScales& scales, std::uint32_t mask,
                                        Sums& sums, RowAt&& row_at, UnitOf&& unit_of) {
  using Stored = typename Weight::Stored;
  block.lanes([&](int lane) {
    const Stored* rows[kBlockRows];
    int units[kBlockRows];
    SIGNSPLIT_UNROLL
    for (int r = 0; r < kBlockRows; ++r) {
      rows[r] = stage + row_at(r) * chunk.columns;
      units[r] = Weight::scaled ? unit_of(r) : 0;
    }
    Partials<T>& mine = sums[lane];
    SIGNSPLIT_UNROLL_BY(T == 1 ? 2 : 1)
    for (int k = 2 * lane; k < chunk.columns; k += kAccumulators) {
      Pack<float, 2> xs[T];
      SIGNSPLIT_UNROLL
      for (int t = 0; t < T; ++t) {
        xs[t] = masked(block.load(reinterpret_cast<const Pack<float, 2>*>(x + t * x_stride + k)), mask);
      }
      SIGNSPLIT_UNROLL
      for (int r = 0; r < kBlockRows; ++r) {
        const auto stored = load_two<Weight>(block, rows[r] + k);
        const auto w = masked(scale_two<Weight>(block, stored, scales, units[r], chunk.column + k), mask);
        SIGNSPLIT_UNROLL
        for (int t = 0; t < T; ++t) multiply_add(mine.v[r * T + t], xs[t], w);
      }
    }
  });
}

/// The same for one row and all tokens: of rows that take several stages, whose partials live on from stage to stage.
template <class Weight, int T, class Block, class Sums, class UnitOf>
SIGNSPLIT_DEVICE void add_segment_partials(Block& block, const Chunk& chunk, const typename Weight::Stored* row,
                                           const float* x, int x_stride, int tokens, const RowScales& scales,
                                           std::uint32_t mask, Sums& sums, UnitOf&& unit_of) {
  block.lanes([&](int lane) {
    const int unit = Weight::scaled ? unit_of() : 0;
    Partials<T>& mine = sums[lane];
    for (int k = 2 * lane; k < chunk.columns; k += kAccumulators) {
      const auto w = masked(scale_two<Weight>(block, load_two<Weight>(block, row + k), scales, unit, chunk.column + k), mask);
      SIGNSPLIT_UNROLL
      for (int g = 0; g < kBlockRows; ++g) {
        if (g * T >= tokens) continue;
        SIGNSPLIT_UNROLL
        for (int t = 0; t < T; ++t) {
          const auto xs = block.load(reinterpret_cast<const Pack<float, 2>*>(x + (g * T + t) * x_stride + k));
          multiply_add(mine.v[g * T + t], masked(xs, mask), w);
        }
      }
    }
  });
}

/// Columns that one lane of a consumer warp owns in y, four at a time: visit(column). Whatever the stage, a column of y
/// belongs to the same lane, so that y needs no barrier.
template <class Visit>
SIGNSPLIT_DEVICE void for_owned_columns(const LaunchShape& launch, int warp, int lane, int begin, int end,
                                        Visit&& visit) {
  const int step = launch.consumer_warps * kWarpLanes * 4;
  for (int column = begin + (warp * kWarpLanes + lane) * 4; column < end; column += step) {
    visit(column);
  }
}

/// y[b][d] += coefficient · W2[row][d] for the rows of a chunk, in ascending order, and T tokens from `token` on.
/// `coefficients(row)` points to token 0 of the row's unit; `scale_row(row)` to the row of scales of its unit.
template <class Weight, int T, class Block, class Coefficients, class ScaleRow>
SIGNSPLIT_DEVICE void add_to_columns(Block& block, const KernelArguments& a, const typename Weight::Stored* stage,
                                     const Chunk& chunk, int column, int token, float* y,
                                     Coefficients&& coefficients, ScaleRow&& scale_row) {
  using Columns = Pack<float, 4>;
  Columns sums[T];
  SIGNSPLIT_UNROLL
  for (int t = 0; t < T; ++t) {
    const int from = token + t < a.problem.batch ? token + t : token;  // tokens beyond the batch are not stored
    sums[t] = block.load(reinterpret_cast<const Columns*>(y + from * a.shape.d_padded + column));
  }
  SIGNSPLIT_UNROLL_BY(2)
  for (int row = 0; row < chunk.rows; ++row) {
    const auto stored = block.load(reinterpret_cast<const Pack<typename Weight::Stored, 4>*>(
        stage + row * chunk.columns + (column - chunk.column)));
    Columns w;
    SIGNSPLIT_UNROLL
    for (int v = 0; v < 4; ++v) w.v[v] = Weight::widen(stored.v[v]);
    if constexpr (Weight::scaled) {
      const auto scale = block.load(reinterpret_cast<const Pack<std::uint16_t, 4>*>(scale_row(row) + column));
      SIGNSPLIT_UNROLL
      for (int v = 0; v < 4; ++v) w.v[v] *= WeightBf16::widen(scale.v[v]);
    }
    const auto c = block.load(reinterpret_cast<const Pack<float, T>*>(coefficients(row) + token));
    SIGNSPLIT_UNROLL
    for (int t = 0; t < T; ++t) {
      SIGNSPLIT_UNROLL
      for (int v = 0; v < 4; ++v) sums[t].v[v] = fused_multiply_add(c.v[t], w.v[v], sums[t].v[v]);
    }
  }
  SIGNSPLIT_UNROLL
  for (int t = 0; t < T; ++t) {
    if (token + t < a.problem.batch) {
      block.store(reinterpret_cast<Columns*>(y + (token + t) * a.shape.d_padded + column), sums[t]);
    }
  }
}

}  // namespace signsplit::gpu
