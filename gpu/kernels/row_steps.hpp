// The consumer's side of unfused and row_fused. See run_parts for the rounds.
#pragma once

#include "consumer.hpp"
#include "plane.hpp"

namespace signsplit::gpu {

template <class Block, class Weight, int T, bool kCertified>
class ConsumerSteps : public Consumer<Block, Weight, T> {
  using Base = Consumer<Block, Weight, T>;
  template <class V>
  using PerLane = typename Block::template PerLane<V>;

 public:
  using Base::Base;

  SIGNSPLIT_DEVICE void round(const Round& round) {
    if constexpr (kCertified) {
      if (round.plane.units > 0) certify(round.plane);
    }
    SIGNSPLIT_NO_UNROLL
    for (int job = 0; job < 3; ++job) {  // one loop: the dot product is compiled once
      const Tile tile = job == kSelectedUp ? round.selected : round.first;
      if (tile.units > 0) first_half(static_cast<Job>(job), tile);
    }
    if (round.down.units > 0) second_half(round.down);
  }

 private:
  using Base::a_;
  using Base::block_;
  using Base::phase_;
  using Base::shared_;
  using Base::counted_;

  /// Jobs of a round's first half: rows of the gate, or of W1 of an FFN without one (or h is loaded); of W1 beside the
  /// gate; of W1 where the gate is open.
  enum Job : int { kFirst, kSecond, kSelectedUp };

  [[nodiscard]] SIGNSPLIT_DEVICE bool selects_up() const {
    return a_.problem.gated && a_.plan.skip && phase_ != Phase::second_product;
  }

  SIGNSPLIT_DEVICE void first_half(Job job, Tile tile) {
    const bool gated = a_.problem.gated, loads = phase_ == Phase::second_product;
    if (job == kSecond && (!gated || selects_up() || loads)) return;
    if (job == kSelectedUp && loads) return;
    const TileState state = shared_.tile(tile.number);
    if (loads) {
      load_h(tile, state);
    } else {
      multiply(job, tile, state);
      if (job == kFirst && gated && !selects_up()) return;
      if (job == kSelectedUp || kCertified) block_.sync_consumers();  // the rows of a list go to other warps than the units
      if (job == kFirst && gated) {
        open_gates(tile, state);
      } else {
        finish_units(tile, state);
      }
    }
    block_.sync_consumers();
    const ListKind kind = job == kFirst && selects_up() ? ListKind::up : ListKind::down;
    if (a_.plan.skip && !(kind == ListKind::down && phase_ == Phase::first_product)) {
      this->publish(kind, tile.number, tile.units, is_wanted(state));
    }
  }

  SIGNSPLIT_DEVICE void multiply(Job job, Tile tile, const TileState& state) {
    const bool is_gate = job == kFirst && a_.problem.gated;
    const std::int32_t* list = nullptr;
    int rows = tile.units;
    if (job == kSelectedUp || kCertified) {
      const ListKind kind = job == kSelectedUp ? ListKind::up : ListKind::survivors;
      rows = this->wait_for_list(kind, tile.number);
      list = shared_.list(kind, tile.number).rows;
      if (kind == ListKind::survivors) counted_.survivors += static_cast<std::uint32_t>(rows);
    }
    this->dot(rows, 0, static_cast<int>(a_.shape.d_padded), this->row_scales(is_gate), tile.begin,
              job == kFirst ? state.pre : state.up, nullptr, this->place_in(list));
    (is_gate ? counted_.gate_rows : counted_.up_rows) += static_cast<std::uint32_t>(rows);
    const index_t scales = job == kSelectedUp ? scale_count(a_.problem, 0, a_.shape.d_padded) : this->tiled_scales_;
    counted_.scales += static_cast<std::uint32_t>(rows * scales);
  }

  /// Which units of a tile the plane cannot prove closed.
  SIGNSPLIT_DEVICE void certify(Tile tile) {
    const TileState state = shared_.tile(tile.number);
    for_plane_chunks(a_, tile, [&](const PlaneChunk& chunk) {
      const std::byte* stage = this->next_stage();
      if (chunk.panel % a_.launch.consumer_warps == block_.warp()) {
        evaluate_chunk(block_, a_, tile, chunk, stage, state.pre, state.up, state.survives);  // free until the panel is judged
        if (chunk.last) judge_panel(block_, a_, tile, chunk, stage, state.pre, state.up, state.survives, state.wanted);
      }
      if (chunk.first) ++counted_.panels;
      this->release_stage();
    });
    counted_.plane_units += static_cast<std::uint32_t>(tile.units);
    block_.sync_consumers();
    this->publish(ListKind::survivors, tile.number, tile.units, is_wanted(state));
  }

  /// The first sum of a unit. One proven closed has none: −∞ stands for whatever it would be.
  [[nodiscard]] SIGNSPLIT_DEVICE float first_sum(const TileState& state, int i, int token) {
    if (kCertified && block_.load(state.survives + i) == 0) return float_of(0xff800000u);
    return block_.load(state.pre + i * static_cast<int>(a_.launch.tokens) + token);
  }

  /// The rows of W2 that have something to add; or h is stored.
  SIGNSPLIT_DEVICE void second_half(Tile tile) {
    const TileState state = shared_.tile(tile.number);
    if (phase_ == Phase::first_product) {
      store_h(tile, state);
      return;
    }
    const int rows = a_.plan.skip ? this->wait_for_list(ListKind::down, tile.number) : tile.units;
    const std::int32_t* list = a_.plan.skip ? shared_.list(ListKind::down, tile.number).rows : nullptr;
    this->add_rows(rows, tile.begin, state.coefficients, this->place_in(list));
    counted_.down_rows += static_cast<std::uint32_t>(rows);
  }

  [[nodiscard]] SIGNSPLIT_DEVICE auto is_wanted(const TileState& state) {
    return [this, wanted = state.wanted](int i) { return this->block_.load(wanted + i) != 0; };
  }

  /// Which up rows are to be read: those of gates that are open, or that must show a 0·∞.
  SIGNSPLIT_DEVICE void open_gates(Tile tile, const TileState& state) {
    this->for_owned_units(tile.units, [&](int i) {
      const int unit = tile.begin + i;
      bool wanted = false;
      for (int b = 0; b < a_.problem.batch; ++b) {
        const float gate = this->biased(a_.weights.gate_bias, unit, first_sum(state, i, b));
        wanted = wanted || is_open(a_.problem.activation, gate) || this->strict(unit, b);
      }
      block_.store(state.wanted + i, wanted ? 1u : 0u);
    });
  }

  /// h of the units that this warp owns, from their sums; which of them are open, and which rows of W2 they want.
  SIGNSPLIT_DEVICE void finish_units(Tile tile, const TileState& state) {
    PerLane<std::uint32_t> open;  // bit b: for token b
    for (int base = 0; this->owned_unit(base) < tile.units; base += kWarpLanes) {
      block_.lanes([&](int lane) {
        const int i = this->owned_unit(base + lane);
        open[lane] = i < tile.units ? finish_unit(tile.begin + i, i, state) : 0u;
      });
      this->count_open(open);
    }
  }

  SIGNSPLIT_DEVICE std::uint32_t finish_unit(int unit, int i, const TileState& state) {
    const int tokens = static_cast<int>(a_.launch.tokens);
    const bool has_up = a_.problem.gated && (!selects_up() || block_.load(state.wanted + i) != 0);
    bool wanted = !a_.plan.skip || this->never_skipped(unit);
    std::uint32_t open = 0;
    for (int b = 0; b < tokens; ++b) {
      float h = 0.0f;
      if (b < a_.problem.batch) {
        const float pre =
            this->biased(a_.problem.gated ? a_.weights.gate_bias : a_.weights.up_bias, unit, first_sum(state, i, b));
        const float up = has_up ? this->biased(a_.weights.up_bias, unit, block_.load(state.up + i * tokens + b)) : 0.0f;
        const bool is = unit_open(a_.problem.activation, pre, up);
        if (is) open |= 1u << b;
        h = this->hidden_value(unit, b, pre, up);
        this->write_mask(unit, b, is);
      }
      wanted = wanted || h != 0.0f;  // true for NaN
      block_.store(state.coefficients + i * tokens + b, h);
    }
    block_.store(state.wanted + i, wanted ? 1u : 0u);
    return open;
  }

  // h in device memory is [d_ff, batch]; its bytes count when it is stored and when it is loaded.

  SIGNSPLIT_DEVICE void store_h(Tile tile, const TileState& state) {
    this->for_owned_units(tile.units, [&](int i) {
      for (int b = 0; b < a_.problem.batch; ++b) {
        block_.store(h_of(tile.begin + i) + b, block_.load(state.coefficients + i * a_.launch.tokens + b));
      }
    });
    counted_.h_units += static_cast<std::uint32_t>(tile.units);
  }
  SIGNSPLIT_DEVICE void load_h(Tile tile, const TileState& state) {
    this->for_owned_units(tile.units, [&](int i) {
      bool wanted = !a_.plan.skip || this->never_skipped(tile.begin + i);
      for (int b = 0; b < a_.launch.tokens; ++b) {
        const float h = b < a_.problem.batch ? block_.load_fresh(h_of(tile.begin + i) + b) : 0.0f;
        wanted = wanted || h != 0.0f;
        block_.store(state.coefficients + i * a_.launch.tokens + b, h);
      }
      block_.store(state.wanted + i, wanted ? 1u : 0u);
    });
    counted_.h_units += static_cast<std::uint32_t>(tile.units);
  }
  [[nodiscard]] SIGNSPLIT_DEVICE float* h_of(int unit) const {
    return reinterpret_cast<float*>(a_.workspace + a_.layout.h) + static_cast<index_t>(unit) * a_.problem.batch;
  }
};

}  // namespace signsplit::gpu
