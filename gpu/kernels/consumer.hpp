// The consumer warps: what all strategies do with the rows that come through the ring.
#pragma once

#include "counted.hpp"
#include "products.hpp"
#include "signsplit/unit_decision.hpp"
#include "tile_schedule.hpp"

namespace signsplit::gpu {

/// What the strategies' consumers share: x, the products, y, the lists of active rows, the statistics. T tokens are
/// computed together. With kStreams the products can give Σ|x||w| beside Σx·w.
template <class Block, class Weight, int T, bool kStreams = false>
class Consumer {
 public:
  SIGNSPLIT_DEVICE Consumer(Block& block, const KernelArguments& a)
      : block_(block), a_(a), shared_(block, a), cursor_(a.launch.stages), x_(shared_.x(block.cta())) {}

  /// Copies x, padded with zeros, to where the products read it, and notes which tokens are not finite.
  SIGNSPLIT_DEVICE void load_x() {
    const index_t d = a_.problem.d_model, padded = a_.shape.d_padded;
    const index_t threads = static_cast<index_t>(a_.launch.consumer_warps) * kWarpLanes;
    for (index_t token = 0; token < a_.launch.tokens; ++token) {
      PerLane<bool> bad;
      block_.lanes([&](int lane) {
        bad[lane] = false;
        for (index_t k = block_.warp() * kWarpLanes + lane; k < padded; k += threads) {
          const float value = token < a_.problem.batch && k < d ? block_.load(a_.x + token * d + k) : 0.0f;
          bad[lane] = bad[lane] || !is_finite(value);
          block_.store(x_ + token * padded + k, value);
        }
      });
      const bool any = block_.ballot(bad) != 0;
      block_.lanes([&](int lane) {
        if (lane == 0) block_.store(shared_.x_nonfinite(block_.warp()) + token, any ? 1u : 0u);
      });
    }
    block_.sync_consumers();
    PerLane<bool> bad;
    block_.lanes([&](int lane) {
      bad[lane] = false;
      if (lane >= a_.launch.tokens) return;
      for (int warp = 0; warp < a_.launch.consumer_warps; ++warp) {
        bad[lane] = bad[lane] || block_.load(shared_.x_nonfinite(warp) + lane) != 0;
      }
    });
    strict_tokens_ = block_.ballot(bad);
  }

  /// Partial y of a part starts at +0.
  SIGNSPLIT_DEVICE void begin(index_t part, Phase phase, const TileFinder& tiles) {
    phase_ = phase;
    ++counted_.parts;
    counted_.tiles += static_cast<std::uint32_t>(tiles.events());
    tiled_scales_ = tiles.scales();
    if (phase == Phase::first_product) return;
    if (part == 0) counted_.scales += static_cast<std::uint32_t>(down_scale_bytes(a_.problem) / kScaleBytes);
    partial_y_ = reinterpret_cast<float*>(a_.workspace + a_.layout.partial_y) + part * a_.problem.batch * a_.shape.d_padded;
    y_ = a_.launch.y_in_shared ? shared_.y() : partial_y_;
    for_owned_y([&](index_t at) { block_.store(reinterpret_cast<Pack<float, 4>*>(y_ + at), Pack<float, 4>{}); });
  }
  SIGNSPLIT_DEVICE void finish() {
    if (phase_ == Phase::first_product || y_ == partial_y_) return;
    for_owned_y([&](index_t at) {
      block_.store(reinterpret_cast<Pack<float, 4>*>(partial_y_ + at),
                   block_.load(reinterpret_cast<const Pack<float, 4>*>(y_ + at)));
    });
  }

  /// y = tree over parts of the partial y, + b2, for some columns: a block's own slice, token by token.
  SIGNSPLIT_DEVICE void reduce(ColumnRange columns) {
    counted_.reduced_columns += static_cast<std::uint32_t>(columns.size());
    for (int token = 0; token < a_.problem.batch; ++token) reduce_token(columns, token);
  }

  /// Adds up what the warps counted, and writes it for the host. `add`: to what an earlier kernel of the plan wrote.
  SIGNSPLIT_DEVICE void write_statistics(bool add) {
    block_.lanes([&](int lane) {
      if (lane != 0) return;
      block_.store(shared_.counts(block_.warp()), static_cast<std::uint64_t>(active_));
      block_.store(shared_.counts(block_.warp()) + 1, static_cast<std::uint64_t>(active_union_));
      block_.store(shared_.counts(block_.warp()) + 2, static_cast<std::uint64_t>(rechecked_));
    });
    block_.sync_consumers();
    if (block_.warp() != 0) return;
    block_.lanes([&](int lane) {
      if (lane != 0) return;
      auto* to = reinterpret_cast<Statistics*>(a_.workspace + a_.layout.statistics) + block_.cta();
      Statistics total;
      for (int warp = 0; warp < a_.launch.consumer_warps; ++warp) {
        total.active += block_.load(shared_.counts(warp));
        total.active_union += block_.load(shared_.counts(warp) + 1);
        total.rechecked += block_.load(shared_.counts(warp) + 2);
      }
      fill_statistics(total, a_, counted_, phase_);
      if (add) add_to(total, block_.load(to));
      block_.store(to, total);
    });
  }

 protected:
  template <class V>
  using PerLane = typename Block::template PerLane<V>;
  using Stored = typename Weight::Stored;

  // ---- products ----

  /// Dot products of the rows of a selection that come through the ring, columns [begin, end), with all tokens:
  /// out[place(row)][token]; Σ|x||w| by the same order goes to `absolute`, unless that is null. Each row is computed by the
  /// warp that owns it.
  template <class Place>
  SIGNSPLIT_DEVICE void dot(int rows, int begin, int end, const RowScales& scales, int first_unit, float* out,
                            float* absolute, Place&& place) {
    PerLane<Partials<T>> sums[kStreams ? 2 : 1];
    for_chunks(a_.launch, rows, begin, end, [&](const Chunk& chunk) {
      const auto* stage = reinterpret_cast<const Stored*>(next_stage());
      if (owner_of(a_.launch, chunk.first_row) == block_.warp()) {
        if (chunk.first && chunk.last) {
          dot_whole(chunk, stage, scales, first_unit, out, absolute, place, sums);
        } else {
          dot_segment(chunk, stage, scales, first_unit, out, absolute, place, sums);
        }
      }
      release_stage();
    });
  }

  /// y += coefficient · row for the rows of W2 that come through the ring. Coefficients are [place(row)][token].
  template <class Place>
  SIGNSPLIT_DEVICE void add_rows(int rows, int first_unit, const float* coefficients, Place&& place) {
    const int batch = static_cast<int>(a_.problem.batch), tokens = static_cast<int>(a_.launch.tokens);
    const int group = static_cast<int>(a_.problem.group);
    for_chunks(a_.launch, rows, 0, static_cast<int>(a_.shape.d_padded), [&](const Chunk& chunk) {
      const auto* stage = reinterpret_cast<const Stored*>(next_stage());
      block_.lanes([&](int lane) {
        for_owned_columns(a_.launch, block_.warp(), lane, chunk.column, chunk.column + chunk.columns, [&](int column) {
          for (int token = 0; token < batch; token += T) {
            add_to_columns<Weight, T>(
                block_, a_, stage, chunk, column, token, y_,
                [&](int row) { return coefficients + place(chunk.first_row + row) * tokens; },
                [&](int row) {
                  const int unit = first_unit + place(chunk.first_row + row);
                  return a_.weights.down_scales + (group == 0 ? 0 : unit / group) * a_.shape.d_padded;
                });
          }
        });
      });
      release_stage();
    });
  }

  /// The place in the tile of the i-th row of a selection; no list: the tile's rows in order. Inside lanes().
  SIGNSPLIT_DEVICE auto place_in(const std::int32_t* list) {
    return [this, list](int row) { return list == nullptr ? row : block_.load(list + row); };
  }
  [[nodiscard]] SIGNSPLIT_DEVICE RowScales row_scales(bool of_gate) const {
    return {of_gate ? a_.weights.gate_scales : a_.weights.up_scales,
            static_cast<int>(scale_count(a_.problem, 0, a_.problem.d_model)), static_cast<int>(a_.problem.group)};
  }

  // ---- lists ----

  /// Warp 0 writes down which units are wanted, in ascending order, and tells all who wait for the list. The consumers
  /// have passed a barrier since what `wanted(unit of the tile)` reads was written.
  template <class Wanted>
  SIGNSPLIT_DEVICE void publish(ListKind kind, int number, int units, Wanted&& wanted) {
    if (block_.warp() != 0) return;
    block_.wait(shared_.taken(kind, number), shared_.list_parity(number) ^ 1u);  // of the list that was here before
    const RowList list = shared_.list(kind, number);
    std::int32_t count = 0;
    for (int base = 0; base < units; base += kWarpLanes) {
      PerLane<bool> want;
      block_.lanes([&](int lane) { want[lane] = base + lane < units && wanted(base + lane); });
      const std::uint32_t mask = block_.ballot(want);
      block_.lanes([&](int lane) {
        const int before = bit_count(mask & ((1u << lane) - 1u));
        if (want[lane]) block_.store(list.rows + count + before, base + lane);
      });
      count += bit_count(mask);
    }
    block_.lanes([&](int lane) {
      if (lane == 0) block_.store(list.count, count);
    });
    block_.arrive(shared_.listed(kind, number));
  }

  /// Waits for a list and returns its length.
  [[nodiscard]] SIGNSPLIT_DEVICE int wait_for_list(ListKind kind, int number) {
    block_.wait(shared_.listed(kind, number), shared_.list_parity(number));
    PerLane<std::int32_t> count;
    block_.lanes([&](int lane) { count[lane] = block_.load(shared_.list(kind, number).count); });
    return block_.uniform(count);
  }

  // ---- one unit and token; inside lanes() ----

  [[nodiscard]] SIGNSPLIT_DEVICE float biased(const float* bias, int unit, float sum) {
    return bias == nullptr ? sum : sum + block_.load(bias + unit);
  }
  [[nodiscard]] SIGNSPLIT_DEVICE bool strict(int unit, int token) {
    if (((strict_tokens_ >> token) & 1u) != 0) return true;
    return a_.weights.input_nonfinite != nullptr && block_.load(a_.weights.input_nonfinite + unit) != 0;
  }
  [[nodiscard]] SIGNSPLIT_DEVICE float hidden_value(int unit, int token, float pre, float up) {
    return unit_h(a_.problem, pre, up, a_.problem.gated && strict(unit, token));
  }
  /// Whether row `unit` of W2 must be read although nothing is to be added: to skip it would hide a 0·∞.
  [[nodiscard]] SIGNSPLIT_DEVICE bool never_skipped(int unit) {
    return a_.weights.down_nonfinite != nullptr && block_.load(a_.weights.down_nonfinite + unit) != 0;
  }
  /// The n-th unit of a tile that this warp owns.
  [[nodiscard]] SIGNSPLIT_DEVICE int owned_unit(int n) const {
    const int rows = static_cast<int>(a_.launch.stage_rows);
    return (block_.warp() + n / rows * a_.launch.consumer_warps) * rows + n % rows;
  }
  /// visit(i) for every unit i of the tile that this warp owns.
  template <class Visit>
  SIGNSPLIT_DEVICE void for_owned_units(int units, Visit&& visit) {
    for (int base = 0; owned_unit(base) < units; base += kWarpLanes) {
      block_.lanes([&](int lane) {
        const int i = owned_unit(base + lane);
        if (i < units) visit(i);
      });
    }
  }
  /// Counts open units; bit b of open[lane] stands for token b of the lane's unit.
  SIGNSPLIT_DEVICE void count_open(const PerLane<std::uint32_t>& open) {
    PerLane<bool> bit;
    block_.lanes([&](int lane) { bit[lane] = open[lane] != 0; });
    active_union_ += static_cast<std::uint32_t>(bit_count(block_.ballot(bit)));
    for (int b = 0; b < a_.problem.batch; ++b) {
      block_.lanes([&](int lane) { bit[lane] = ((open[lane] >> b) & 1u) != 0; });
      active_ += static_cast<std::uint32_t>(bit_count(block_.ballot(bit)));
    }
  }
  SIGNSPLIT_DEVICE void write_mask(int unit, int token, bool open) {
    if (a_.active_mask == nullptr) return;
    block_.store(a_.active_mask + token * a_.problem.d_ff + unit, static_cast<std::uint8_t>(open ? 1 : 0));
  }

  // ---- ring ----

  [[nodiscard]] SIGNSPLIT_DEVICE const std::byte* next_stage() {
    block_.wait(shared_.full(cursor_.slot()), cursor_.parity());
    return shared_.stage(cursor_.slot());
  }
  SIGNSPLIT_DEVICE void release_stage() {
    block_.arrive(shared_.empty(cursor_.slot()));
    cursor_.advance();
  }

  Block& block_;
  const KernelArguments& a_;
  SharedState<Block> shared_;
  RingCursor cursor_;
  float* x_;
  float* y_ = nullptr;          // [batch, d_padded] of the part
  float* partial_y_ = nullptr;  // where it goes
  Phase phase_ = Phase::fused;
  std::uint32_t strict_tokens_ = 0;  // bit b: a value of x of token b is not finite
  std::uint32_t active_ = 0, active_union_ = 0, rechecked_ = 0;  // counted by this warp alone
  Counted counted_;
  int tiled_scales_ = 0;  // int8: scales that the K tiles of a row read

 private:
  template <class Visit>
  SIGNSPLIT_DEVICE void for_owned_y(Visit&& visit) {
    for_chunks(a_.launch, 1, 0, static_cast<int>(a_.shape.d_padded), [&](const Chunk& chunk) {
      block_.lanes([&](int lane) {
        for_owned_columns(a_.launch, block_.warp(), lane, chunk.column, chunk.column + chunk.columns, [&](int column) {
          for (index_t token = 0; token < a_.problem.batch; ++token) visit(token * a_.shape.d_padded + column);
        });
      });
    });
  }

  template <class Sums>
  SIGNSPLIT_DEVICE void clear(Sums& sums) {
    block_.lanes([&](int lane) {
      SIGNSPLIT_UNROLL
      for (int i = 0; i < kBlockRows * T; ++i) sums[lane].v[i] = {{0.0f, 0.0f}};
    });
  }

  template <class Place, class Sums>
  SIGNSPLIT_DEVICE void dot_whole(const Chunk& chunk, const Stored* stage, const RowScales& scales, int first_unit, float* out,
                                  float* absolute, Place& place, Sums& sums) {
    const int tokens = static_cast<int>(a_.launch.tokens), x_stride = static_cast<int>(a_.shape.d_padded);
    for (int row = 0; row < chunk.rows; row += kBlockRows) {
      const auto row_at = [&](int r) { return row + r < chunk.rows ? row + r : chunk.rows - 1; };
      const auto unit_of = [&](int r) { return first_unit + place(chunk.first_row + row_at(r)); };
      for (int token = 0; token < tokens; token += T) {
        SIGNSPLIT_NO_UNROLL
        for (int stream = 0; stream < (kStreams ? 2 : 1); ++stream) {
          if (stream == 1 && absolute == nullptr) continue;
          const std::uint32_t mask = !kStreams || stream == 0 ? kAllBits : kMagnitude;
          clear(sums[0]);
          add_rows_partials<Weight, T>(block_, chunk, stage, x_ + token * x_stride + chunk.column, x_stride, scales, mask,
                                       sums[0], row_at, unit_of);
          const auto folded = block_.fold(sums[0]);
          float* to = stream == 0 ? out : absolute;
          block_.lanes([&](int lane) {
            SIGNSPLIT_UNROLL
            for (int i = 0; i < kBlockRows * T; ++i) {
              if (lane != i || row + i / T >= chunk.rows) continue;
              block_.store(to + place(chunk.first_row + row + i / T) * tokens + token + i % T, folded[lane].v[i]);
            }
          });
        }
      }
    }
  }

  template <class Place, class Sums>
  SIGNSPLIT_DEVICE void dot_segment(const Chunk& chunk, const Stored* stage, const RowScales& scales, int first_unit,
                                    float* out, float* absolute, Place& place, Sums& sums) {
    const int tokens = static_cast<int>(a_.launch.tokens), x_stride = static_cast<int>(a_.shape.d_padded);
    SIGNSPLIT_UNROLL
    for (int stream = 0; stream < (kStreams ? 2 : 1); ++stream) {
      if (stream == 1 && absolute == nullptr) continue;
      if (chunk.first) clear(sums[stream]);
      add_segment_partials<Weight, T>(block_, chunk, stage, x_ + chunk.column, x_stride, tokens, scales,
                                      stream == 0 ? kAllBits : kMagnitude, sums[stream],
                                      [&] { return first_unit + place(chunk.first_row); });
      if (!chunk.last) continue;
      const auto folded = block_.fold(sums[stream]);
      float* to = stream == 0 ? out : absolute;
      block_.lanes([&](int lane) {
        SIGNSPLIT_UNROLL
        for (int i = 0; i < kBlockRows * T; ++i) {
          if (lane == i && i < tokens) block_.store(to + place(chunk.first_row) * tokens + i, folded[lane].v[i]);
        }
      });
    }
  }

  SIGNSPLIT_DEVICE void reduce_token(ColumnRange columns, int token) {
    const int parts = static_cast<int>(a_.plan.parts), width = static_cast<int>(columns.size());
    const index_t part_stride = a_.problem.batch * a_.shape.d_padded;
    float* sums = shared_.reduction();  // [parts, width]
    const auto* partial = reinterpret_cast<const float*>(a_.workspace + a_.layout.partial_y) +
                          token * a_.shape.d_padded + columns.begin;
    for_threads(parts * width, [&](int i) {
      block_.store(sums + i, block_.load_fresh(partial + i / width * part_stride + i % width));
    });
    for (int stride = 1; stride < parts; stride *= 2) {
      block_.sync_consumers();
      for_threads((parts + 2 * stride - 1) / (2 * stride) * width, [&](int i) {
        const int into = i / width * 2 * stride, from = into + stride;
        if (from >= parts) return;
        float* at = sums + into * width + i % width;
        block_.store(at, block_.load(at) + block_.load(sums + from * width + i % width));
      });
    }
    block_.sync_consumers();
    for_threads(width, [&](int i) {
      const index_t d = columns.begin + i;
      if (d >= a_.problem.d_model) return;
      const float sum = block_.load(sums + i) + 0.0f;  // −0 becomes +0
      const float y = a_.weights.down_bias == nullptr ? sum : sum + block_.load(a_.weights.down_bias + d);
      block_.store(a_.y + token * a_.problem.d_model + d, y == y ? y : float_of(0x7fc00000u));
    });
    block_.sync_consumers();  // the sums make way for the next token's
  }

  /// visit(i), 0 ≤ i < count, dealt over the threads of the consumer warps.
  template <class Visit>
  SIGNSPLIT_DEVICE void for_threads(int count, Visit&& visit) {
    const int threads = a_.launch.consumer_warps * kWarpLanes;
    block_.lanes([&](int lane) {
      for (int i = block_.warp() * kWarpLanes + lane; i < count; i += threads) visit(i);
    });
  }
};

}  // namespace signsplit::gpu
