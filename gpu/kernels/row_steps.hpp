// The consumer's side of unfused and row_fused. See TileSchedule for the steps.
#pragma once

#include "consumer.hpp"

namespace signsplit::gpu {

template <class Block, class Weight, int T>
class ConsumerSteps : public Consumer<Block, Weight, T> {
  using Base = Consumer<Block, Weight, T>;
  template <class V>
  using PerLane = typename Block::template PerLane<V>;

 public:
  using Base::Base;

  /// The rows of W1 that are always read (gated with skip: those of the gate); or h is loaded.
  SIGNSPLIT_DEVICE void dense(HiddenRange hidden, index_t number) {
    const TileState tile = shared_.tile(number);
    const index_t units = hidden.size();
    const KRange whole{0, a_.shape.d_padded};
    const auto in_order = [](index_t row) { return row; };
    if (phase_ == Phase::second_product) {
      load_h(hidden, tile);
    } else if (!a_.problem.gated) {
      this->dot(units, whole, up_scales(), hidden.begin, tile.pre, in_order);
      statistics_.bytes_up += matrix_bytes(units);
      finish_units(hidden, tile);
    } else {
      this->dot(units, whole, gate_scales(), hidden.begin, tile.pre, in_order);
      statistics_.bytes_gate += matrix_bytes(units);
      if (selects_up()) {
        open_gates(hidden, tile);
      } else {
        this->dot(units, whole, up_scales(), hidden.begin, tile.up, in_order);
        statistics_.bytes_up += matrix_bytes(units);
        finish_units(hidden, tile);
      }
    }
    block_.sync_consumers();
    if (selects_up()) {
      this->publish(ListKind::up, number, tile.wanted, units);
    } else if (a_.plan.skip && phase_ != Phase::first_product) {
      this->publish(ListKind::down, number, tile.wanted, units);
    }
  }

  /// The up rows of the units whose gate is open for some token.
  SIGNSPLIT_DEVICE void selected(HiddenRange hidden, index_t number) {
    if (!selects_up()) return;
    const TileState tile = shared_.tile(number);
    const RowList list = shared_.list(ListKind::up, number);
    const index_t rows = this->wait_for_list(ListKind::up, number);
    this->dot(rows, {0, a_.shape.d_padded}, up_scales(), hidden.begin, tile.up,
              [&](index_t row) { return block_.load(list.rows + row); });
    statistics_.bytes_up += matrix_bytes(rows);
    block_.sync_consumers();  // a unit's gate and its up value may come from two warps
    finish_units(hidden, tile);
    if (phase_ == Phase::first_product) return;
    block_.sync_consumers();
    this->publish(ListKind::down, number, tile.wanted, hidden.size());
  }

  /// The rows of W2 that have something to add; or h is stored.
  SIGNSPLIT_DEVICE void down(HiddenRange hidden, index_t number) {
    const TileState tile = shared_.tile(number);
    if (phase_ == Phase::first_product) {
      store_h(hidden, tile);
      return;
    }
    index_t rows = hidden.size();
    if (a_.plan.skip) {
      rows = this->wait_for_list(ListKind::down, number);
      const RowList list = shared_.list(ListKind::down, number);
      this->add_rows(rows, hidden.begin, tile.coefficients, [&](index_t row) { return block_.load(list.rows + row); });
    } else {
      this->add_rows(rows, hidden.begin, tile.coefficients, [](index_t row) { return row; });
    }
    statistics_.bytes_down += matrix_bytes(rows);
    statistics_.pushed_rows += static_cast<std::uint64_t>(rows);
  }

 private:
  using Base::a_;
  using Base::block_;
  using Base::phase_;
  using Base::shared_;
  using Base::statistics_;

  [[nodiscard]] SIGNSPLIT_DEVICE bool selects_up() const {
    return a_.problem.gated && a_.plan.skip && phase_ != Phase::second_product;
  }
  [[nodiscard]] SIGNSPLIT_DEVICE std::uint64_t matrix_bytes(index_t rows) const {
    return static_cast<std::uint64_t>(rows * a_.shape.d_padded * dtype_bytes(a_.problem.dtype));
  }
  [[nodiscard]] SIGNSPLIT_DEVICE RowScales up_scales() const { return scales(a_.weights.up_scales); }
  [[nodiscard]] SIGNSPLIT_DEVICE RowScales gate_scales() const { return scales(a_.weights.gate_scales); }
  [[nodiscard]] SIGNSPLIT_DEVICE RowScales scales(const std::uint16_t* of) const {
    const index_t group = a_.problem.group;
    return {of, group == 0 ? 1 : ceil_div(a_.problem.d_model, group), group};
  }

  /// Which up rows are to be read: those of gates that are open, or that must show a 0·∞.
  SIGNSPLIT_DEVICE void open_gates(HiddenRange hidden, const TileState& tile) {
    this->for_owned_units(hidden.size(), [&](index_t i) {
      const index_t unit = hidden.begin + i;
      bool wanted = false;
      for (index_t b = 0; b < a_.problem.batch; ++b) {
        float* pre = tile.pre + i * a_.launch.tokens + b;
        const float gate = this->biased(a_.weights.gate_bias, unit, block_.load(pre));
        wanted = wanted || is_open(a_.problem.activation, gate) || this->strict(unit, b);
      }
      block_.store(tile.wanted + i, wanted ? 1u : 0u);
    });
  }

  /// h of the units that this warp owns, from their sums; which of them are open, and which rows of W2 they want.
  SIGNSPLIT_DEVICE void finish_units(HiddenRange hidden, const TileState& tile) {
    const int units = static_cast<int>(hidden.size());
    PerLane<std::uint32_t> open;  // bit b: for token b
    for (int base = 0; this->owned_unit(base) < units; base += kWarpLanes) {
      block_.lanes([&](int lane) {
        const int i = this->owned_unit(base + lane);
        open[lane] = i < units ? finish_unit(hidden.begin + i, i, tile) : 0u;
      });
      this->count_open(open);
    }
  }

  SIGNSPLIT_DEVICE std::uint32_t finish_unit(index_t unit, index_t i, const TileState& tile) {
    const index_t tokens = a_.launch.tokens;
    const bool has_up = a_.problem.gated && (!selects_up() || block_.load(tile.wanted + i) != 0);
    bool wanted = !a_.plan.skip || this->never_skipped(unit);
    std::uint32_t open = 0;
    for (index_t b = 0; b < tokens; ++b) {
      float h = 0.0f;
      if (b < a_.problem.batch) {
        const float sum = block_.load(tile.pre + i * tokens + b);
        const float pre = this->biased(a_.problem.gated ? a_.weights.gate_bias : a_.weights.up_bias, unit, sum);
        const float up = has_up ? this->biased(a_.weights.up_bias, unit, block_.load(tile.up + i * tokens + b)) : 0.0f;
        const bool is = this->unit_open(pre, up);
        if (is) open |= 1u << b;
        h = this->unit_h(unit, b, pre, up);
        this->write_mask(unit, b, is);
      }
      wanted = wanted || h != 0.0f;  // true for NaN
      block_.store(tile.coefficients + i * tokens + b, h);
    }
    block_.store(tile.wanted + i, wanted ? 1u : 0u);
    return open;
  }

  // h in device memory is [d_ff, batch]; its bytes count when it is stored and when it is loaded.

  SIGNSPLIT_DEVICE void store_h(HiddenRange hidden, const TileState& tile) {
    this->for_owned_units(hidden.size(), [&](index_t i) {
      for (index_t b = 0; b < a_.problem.batch; ++b) {
        block_.store(h_of(hidden.begin + i) + b, block_.load(tile.coefficients + i * a_.launch.tokens + b));
      }
    });
    statistics_.bytes_h += static_cast<std::uint64_t>(hidden.size() * a_.problem.batch) * 4;
  }
  SIGNSPLIT_DEVICE void load_h(HiddenRange hidden, const TileState& tile) {
    this->for_owned_units(hidden.size(), [&](index_t i) {
      bool wanted = !a_.plan.skip || this->never_skipped(hidden.begin + i);
      for (index_t b = 0; b < a_.launch.tokens; ++b) {
        const float h = b < a_.problem.batch ? block_.load_fresh(h_of(hidden.begin + i) + b) : 0.0f;
        wanted = wanted || h != 0.0f;
        block_.store(tile.coefficients + i * a_.launch.tokens + b, h);
      }
      block_.store(tile.wanted + i, wanted ? 1u : 0u);
    });
    statistics_.bytes_h += static_cast<std::uint64_t>(hidden.size() * a_.problem.batch) * 4;
  }
  [[nodiscard]] SIGNSPLIT_DEVICE float* h_of(index_t unit) const {
    return reinterpret_cast<float*>(a_.workspace + a_.layout.h) + unit * a_.problem.batch;
  }
};

}  // namespace signsplit::gpu
