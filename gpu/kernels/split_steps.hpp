// sign_split: K tile by K tile, what is summed so far goes through W2 at once, and is repaired at the end of the hidden tile.
// What is pushed and what repairs it: signsplit/unit_decision.hpp.
#pragma once

#include "consumer.hpp"
#include "exact_dot.hpp"
#include "split_rounds.hpp"

namespace signsplit::gpu {

template <class Block, class Weight, int T>
class SplitConsumerSteps : public Consumer<Block, Weight, T, true> {
  using Base = Consumer<Block, Weight, T, true>;
  template <class V>
  using PerLane = typename Block::template PerLane<V>;

 public:
  using Base::Base;

  /// Euclidean norms of x, rounded up, added in the CPU executor's order. After load_x().
  SIGNSPLIT_DEVICE void measure_x() {
    for (int token = block_.warp(); token < a_.problem.batch; token += a_.launch.consumer_warps) {
      block_.lanes([&](int lane) {
        if (lane != 0) return;
        const index_t d = a_.problem.d_model;
        double sum = 0.0;
        for (index_t k = 0; k < d; ++k) {
          const auto value = static_cast<double>(block_.load(a_.x + token * d + k));
          sum += value * value;
        }
        block_.store(shared_.norms() + token, std::sqrt(sum) * (1.0 + 0x1p-52 * static_cast<double>(d + 4)));
      });
    }
    block_.sync_consumers();
  }

  SIGNSPLIT_DEVICE void round(Tile tile, KRange k) {
    const TileState state = shared_.tile(tile.number);
    SIGNSPLIT_NO_UNROLL
    for (int repairing = 0; repairing < (k.last ? 2 : 1); ++repairing) {  // one loop: the products are compiled once
      RedoRows redo;
      int rows = tile.units;
      if (repairing != 0) {
        block_.sync_consumers();  // all have added the last push
        decide(tile, state);
        rows = list_redo_rows(tile, state, redo);
      } else {
        counted_.tile_elems += static_cast<std::uint64_t>(tile.units * k.size());
      }
      multiply(tile, state, rows, redo, repairing != 0 ? KRange{0, a_.shape.d_padded} : k);
      block_.sync_consumers();
      if (repairing != 0) {
        settle(tile, state);
      } else {
        push(tile, state, k.first);
      }
      add_wanted(tile, state, repairing != 0);
    }
  }

 private:
  using Base::a_;
  using Base::block_;
  using Base::counted_;
  using Base::shared_;

  /// Rows that are computed again, as the rows of the first matrix and of up come; null: all rows of the tile.
  struct RedoRows {
    const std::int32_t *first = nullptr, *up = nullptr;
  };

  [[nodiscard]] SIGNSPLIT_DEVICE int tokens() const { return static_cast<int>(a_.launch.tokens); }
  [[nodiscard]] SIGNSPLIT_DEVICE const float* first_bias() const {
    return a_.problem.gated ? a_.weights.gate_bias : a_.weights.up_bias;
  }

  SIGNSPLIT_DEVICE void multiply(Tile tile, const TileState& state, int rows, RedoRows redo, KRange k) {
    const int matrices = a_.problem.gated ? 2 : 1;
    counted_.scales += static_cast<std::uint32_t>(matrices * rows * scale_count(a_.problem, k.begin, k.end));
    SIGNSPLIT_NO_UNROLL
    for (int matrix = 0; matrix < matrices; ++matrix) {
      const bool streams = a_.plan.variant == Variant::streams && redo.first == nullptr;
      this->dot(rows, static_cast<int>(k.begin), static_cast<int>(k.end), this->row_scales(a_.problem.gated && matrix == 0),
                tile.begin, matrix == 0 ? state.pre : state.up, streams ? state.absolute : nullptr,
                this->place_in(matrix == 0 ? redo.first : redo.up));
    }
  }

  // ---- push ----

  SIGNSPLIT_DEVICE void push(Tile tile, const TileState& state, bool first) {
    this->for_owned_units(tile.units, [&](int i) {
      const int unit = tile.begin + i;
      bool wanted = !a_.plan.skip || this->never_skipped(unit);
      if (first) block_.store(state.already_read + i, 0u);
      for (int b = 0; b < tokens(); ++b) {
        const float c = b < a_.problem.batch ? push_one(unit, i, b, state, first) : 0.0f;
        block_.store(state.coefficients + i * tokens() + b, c);
        wanted = wanted || c != 0.0f;
      }
      block_.store(state.wanted + i, wanted ? kAdds : 0u);
    });
  }

  SIGNSPLIT_DEVICE float push_one(int unit, int i, int token, const TileState& state, bool first) {
    const int at = i * tokens() + token;
    SplitUnit split = first ? SplitUnit{} : load_unit(state, at);
    bool stopped = first ? this->strict(unit, token) : block_.load(state.stopped + at) != 0.0f;
    float c = 0.0f;
    if (!stopped) {
      const bool gated = a_.problem.gated;
      float z = block_.load(state.pre + at), up = gated ? block_.load(state.up + at) : 0.0f;
      float absolute = a_.plan.variant == Variant::streams ? block_.load(state.absolute + at) : 0.0f;
      if (first) {  // the bias belongs to the first tile
        z = this->biased(first_bias(), unit, z);
        if (gated) up = this->biased(a_.weights.up_bias, unit, up);
        if (a_.weights.up_bias != nullptr) absolute += std::fabs(block_.load(a_.weights.up_bias + unit));
      }
      c = push_coefficient(a_.plan, a_.problem, split, z, up, absolute);
      if (!is_finite(c)) {  // the streams overflow where z need not: the unit is redone at the end of the tile
        c = 0.0f;
        stopped = true;
      }
    }
    block_.store(state.positive + at, split.positive);
    block_.store(state.negative + at, split.negative);
    block_.store(state.pushed + at, split.pushed);
    block_.store(state.stopped + at, stopped ? 1.0f : 0.0f);
    return c;
  }

  [[nodiscard]] SIGNSPLIT_DEVICE SplitUnit load_unit(const TileState& state, int at) {
    return {block_.load(state.positive + at), block_.load(state.negative + at), block_.load(state.pushed + at)};
  }

  // ---- repair ----

  /// For every unit: what is to be added; `stopped` where it must be computed again, `absolute` where it is open.
  SIGNSPLIT_DEVICE void decide(Tile tile, const TileState& state) {
    for (int base = 0; this->owned_unit(base) < tile.units; base += kWarpLanes) {
      PerLane<std::uint32_t> doubt;  // bit b: token b of the lane's unit
      block_.lanes([&](int lane) {
        const int i = this->owned_unit(base + lane);
        doubt[lane] = i < tile.units ? doubtful(tile.begin + i, i, state) : 0u;
      });
      settle_exactly(tile, state, base, doubt);
      block_.lanes([&](int lane) {
        const int i = this->owned_unit(base + lane);
        if (i < tile.units) decide_unit(i, state, doubt[lane]);
      });
    }
  }

  SIGNSPLIT_DEVICE std::uint32_t doubtful(int unit, int i, const TileState& state) {
    std::uint32_t doubt = 0;
    for (int b = 0; b < a_.problem.batch; ++b) {
      const int at = i * tokens() + b;
      if (block_.load(state.stopped + at) != 0.0f) continue;
      const Activation act = a_.problem.activation;
      const SplitUnit split = load_unit(state, at);
      const float pre = split_pre(a_.plan, split), up = split_up(a_.problem, split);
      const double norm = block_.load(shared_.norms() + b);
      const bool gated = a_.problem.gated;
      if (sign_in_doubt(act, pre, bound(norm, gated ? a_.weights.gate_norms : a_.weights.up_norms, first_bias(), unit)) ||
          (up_sign_matters(act, pre) && sign_in_doubt(act, up, bound(norm, a_.weights.up_norms, a_.weights.up_bias, unit)))) {
        doubt |= 1u << b;
      }
    }
    return doubt;
  }
  [[nodiscard]] SIGNSPLIT_DEVICE double bound(double x_norm, const float* norms, const float* bias, int unit) {
    const float b = bias == nullptr ? 0.0f : block_.load(bias + unit);
    return rounding_bound(a_.plan, a_.shape, mass_bound(x_norm, block_.load(norms + unit), b));
  }

  /// Exact sums for the units in doubt, by the whole warp: pre and up receive their values, absolute the sign (drelu: that
  /// of both together).
  SIGNSPLIT_DEVICE void settle_exactly(Tile tile, const TileState& state, int base, const PerLane<std::uint32_t>& doubt) {
    for (int b = 0; b < a_.problem.batch; ++b) {
      PerLane<bool> bit;
      block_.lanes([&](int lane) { bit[lane] = ((doubt[lane] >> b) & 1u) != 0; });
      const std::uint32_t units = block_.ballot(bit);
      rechecked_count(units);
      SIGNSPLIT_NO_UNROLL
      for (int lane_of = 0; lane_of < kWarpLanes; ++lane_of) {
        if (((units >> lane_of) & 1u) != 0) settle_one(tile, state, this->owned_unit(base + lane_of), b);
      }
    }
  }
  SIGNSPLIT_DEVICE void rechecked_count(std::uint32_t units) { this->rechecked_ += static_cast<std::uint32_t>(bit_count(units)); }

  SIGNSPLIT_DEVICE void settle_one(Tile tile, const TileState& state, int i, int token) {
    const Activation act = a_.problem.activation;
    const int unit = tile.begin + i, at = i * tokens() + token;
    const float threshold = opening_threshold(act);
    SIGNSPLIT_NO_UNROLL
    for (int matrix = 0; matrix < (a_.problem.gated ? 2 : 1); ++matrix) {
      const bool is_first = matrix == 0, is_gate = is_first && a_.problem.gated;
      const std::byte* rows = is_gate ? a_.weights.gate : a_.weights.up;
      const auto* row = reinterpret_cast<const typename Weight::Stored*>(rows) + unit * a_.shape.d_padded;
      const auto exact = exact_dot<Weight>(block_, shared_.limbs(block_.warp()), row, this->row_scales(is_gate), unit,
                                           this->x_ + token * a_.shape.d_padded, static_cast<int>(a_.shape.d_padded),
                                           is_gate ? a_.weights.gate_bias : a_.weights.up_bias, is_first ? threshold : 0.0f);
      block_.lanes([&](int lane) {
        if (lane != 0) return;
        block_.store((is_first ? state.pre : state.up) + at, exact[lane].value);
        const bool open = is_first ? exact[lane].sign > 0 : exactly_open(act, block_.load(state.absolute + at) != 0.0f, exact[lane].value);
        block_.store(state.absolute + at, open ? 1.0f : 0.0f);
      });
    }
  }

  SIGNSPLIT_DEVICE void decide_unit(int i, const TileState& state, std::uint32_t doubt) {
    bool redo_row = false;
    for (int b = 0; b < a_.problem.batch; ++b) {
      const int at = i * tokens() + b;
      const SplitUnit split = load_unit(state, at);
      const bool in_doubt = ((doubt >> b) & 1u) != 0;
      const bool stopped = block_.load(state.stopped + at) != 0.0f;
      bool open = false;
      Correction correction{0.0f, true};
      if (!stopped) {
        open = unit_open(a_.problem.activation, split_pre(a_.plan, split), split_up(a_.problem, split));
        const bool exact_open = in_doubt ? block_.load(state.absolute + at) != 0.0f : open;
        if (exact_open == open) {
          correction = signsplit::correction(a_.plan, a_.problem, split, open, in_doubt);
        } else {
          open = exact_open;
          const float up = a_.problem.gated ? block_.load(state.up + at) : 0.0f;
          correction = settled_correction(a_.plan, a_.problem, split, open, block_.load(state.pre + at), up);
        }
      }
      block_.store(state.coefficients + at, correction.c);
      block_.store(state.stopped + at, correction.redo ? 1.0f : 0.0f);
      block_.store(state.absolute + at, open ? 1.0f : 0.0f);
      redo_row = redo_row || correction.redo;
    }
    block_.store(state.wanted + i, redo_row ? kAdds : 0u);
  }

  /// Lists the rows that are computed again. Returns how many.
  SIGNSPLIT_DEVICE int list_redo_rows(Tile tile, const TileState& state, RedoRows& redo) {
    block_.sync_consumers();
    int rows = 0;
    SIGNSPLIT_NO_UNROLL
    for (int matrix = 0; matrix < (a_.problem.gated ? 2 : 1); ++matrix) {
      const ListKind kind = matrix == 0 ? ListKind::survivors : ListKind::up;
      const int number = numbers_.next(kind);
      this->publish(kind, number, tile.units, [&](int i) { return block_.load(state.wanted + i) != 0; });
      rows = this->wait_for_list(kind, number);
      (matrix == 0 ? redo.first : redo.up) = shared_.list(kind, number).rows;
    }
    counted_.redone += static_cast<std::uint32_t>(rows);
    return rows;
  }

  /// Units computed again get h − u; then everything about the tile is known.
  SIGNSPLIT_DEVICE void settle(Tile tile, const TileState& state) {
    PerLane<std::uint32_t> open;
    for (int base = 0; this->owned_unit(base) < tile.units; base += kWarpLanes) {
      block_.lanes([&](int lane) {
        const int i = this->owned_unit(base + lane);
        open[lane] = i < tile.units ? settle_unit(tile.begin + i, i, state) : 0u;
      });
      this->count_open(open);
    }
  }

  SIGNSPLIT_DEVICE std::uint32_t settle_unit(int unit, int i, const TileState& state) {
    std::uint32_t open = 0;
    bool adds = a_.plan.repair == Repair::full;
    for (int b = 0; b < a_.problem.batch; ++b) {
      const int at = i * tokens() + b;
      bool is = block_.load(state.absolute + at) != 0.0f;
      float c = block_.load(state.coefficients + at);
      if (block_.load(state.stopped + at) != 0.0f) {
        const float pre = this->biased(first_bias(), unit, block_.load(state.pre + at));
        const float up = a_.problem.gated ? this->biased(a_.weights.up_bias, unit, block_.load(state.up + at)) : 0.0f;
        is = unit_open(a_.problem.activation, pre, up);
        c = this->hidden_value(unit, b, pre, up) - block_.load(state.pushed + at);
        block_.store(state.coefficients + at, c);
      }
      if (is) open |= 1u << b;
      this->write_mask(unit, b, is);
      adds = adds || c != 0.0f;
    }
    block_.store(state.wanted + i, adds ? kAdds : this->never_skipped(unit) ? kShows : 0u);
    return open;
  }

  // ---- product 2 ----

  /// A unit's row of W2 is read because something is added, or only because skipping it would hide a 0·∞: that is a reason
  /// only where the tile adds anything.
  static constexpr std::uint32_t kAdds = 1, kShows = 2;

  SIGNSPLIT_DEVICE void add_wanted(Tile tile, const TileState& state, bool repairing) {
    block_.sync_consumers();
    const int number = numbers_.next(ListKind::down);
    if (block_.warp() == 0) {
      const bool any = count_units(tile, [&](int i) { return block_.load(state.wanted + i) == kAdds; }) > 0;
      const auto wanted = [&](int i) { return any && block_.load(state.wanted + i) != 0; };
      counted_.down_again += static_cast<std::uint32_t>(
          count_units(tile, [&](int i) { return wanted(i) && block_.load(state.already_read + i) != 0; }));
      block_.lanes([&](int lane) {
        for (int i = lane; i < tile.units; i += kWarpLanes) {
          if (wanted(i)) block_.store(state.already_read + i, 1u);
        }
      });
      this->publish(ListKind::down, number, tile.units, wanted);
    }
    const int rows = this->wait_for_list(ListKind::down, number);
    this->add_rows(rows, tile.begin, state.coefficients, this->place_in(shared_.list(ListKind::down, number).rows));
    counted_.down_rows += static_cast<std::uint32_t>(rows);
    if (repairing) counted_.repaired += static_cast<std::uint32_t>(rows);
  }

  /// How many units of the tile satisfy is(i). By one warp.
  template <class Is>
  [[nodiscard]] SIGNSPLIT_DEVICE int count_units(Tile tile, Is&& is) {
    int count = 0;
    for (int base = 0; base < tile.units; base += kWarpLanes) {
      PerLane<bool> bit;
      block_.lanes([&](int lane) { bit[lane] = base + lane < tile.units && is(base + lane); });
      count += bit_count(block_.ballot(bit));
    }
    return count;
  }

  ListNumbers numbers_;
};

template <class Block, class Weight, int T>
SIGNSPLIT_DEVICE void split_kernel(Block& block, const KernelArguments& a) {
  init_barriers(block, a);
  block.launch_dependents();
  if (block.warp() == a.launch.consumer_warps) {
    SplitProducerSteps<Block> producer(block, a);
    run_split_parts(block, a, producer);
    block.finish_copies();
    return;
  }
  block.wait_for_primary();
  SplitConsumerSteps<Block, Weight, T> consumer(block, a);
  consumer.load_x();
  consumer.measure_x();
  run_split_parts(block, a, consumer);
  reduce_slices(block, a, consumer);
  consumer.write_statistics(false);
}

}  // namespace signsplit::gpu
