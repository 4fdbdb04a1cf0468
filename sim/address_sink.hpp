// The addresses that a walk touches, as ranges of bytes, in the order in which the work has to appear to be done.
#pragma once

#include "signsplit/sim/cache_replay.hpp"

namespace signsplit::sim {

/// Calls touch(begin, bytes) for every range. Scratch that lives in registers, the state of a tile, is left out.
template <class Touch>
class AddressSink {
 public:
  AddressSink(const Plan& plan, const Problem& problem, std::span<const std::uint8_t> open, Touch& touch)
      : plan_(plan), problem_(problem), map_(address_map(plan, problem)), open_(open), touch_(touch) {}

  void begin_part(index_t part, Phase phase) {
    part_ = part;
    if (phase != Phase::first_product) touch_(part_of_y(part), token_bytes());
  }
  void up_tile(HiddenRange hidden, KRange k) {
    const index_t elem = dtype_bytes(problem_.dtype), split = plan_.strategy == Strategy::sign_split ? 1 : 0;
    for (index_t j = hidden.begin; j < hidden.end; ++j) {
      if (problem_.gated) row(map_.gate, j, k.begin * elem, k.size() * elem);
      const bool gate_closes = problem_.gated && plan_.skip && split == 0 && !is_open(j);
      if (!gate_closes) row(map_.up, j, k.begin * elem, k.size() * elem);
      for (index_t token = 0; token < problem_.batch; ++token) touch_(map_.x + token * columns() * 4 + k.begin * 4, k.size() * 4);
    }
  }
  void certify(HiddenRange) {}
  void activate(HiddenRange) {}
  void push(HiddenRange, KRange) {}
  void down_tile(HiddenRange hidden) {
    for (index_t j = hidden.begin; j < hidden.end; ++j) {
      if (plan_.skip && !is_open(j)) continue;
      row(map_.down, j, 0, map_.row_bytes);
      touch_(part_of_y(part_), token_bytes());
    }
  }
  void correct(HiddenRange) {}
  void store_h(HiddenRange hidden) { touch_(map_.h + hidden.begin * problem_.batch * 4, hidden.size() * problem_.batch * 4); }
  void load_h(HiddenRange hidden) { store_h(hidden); }
  void reduce(ColumnRange range) {
    for (index_t part = 0; part < plan_.parts; ++part) slice(part_of_y(part), range);
    slice(map_.y, range);
  }

 private:
  [[nodiscard]] index_t columns() const { return walk_shape(problem_).d_padded; }
  [[nodiscard]] index_t token_bytes() const { return problem_.batch * columns() * 4; }
  [[nodiscard]] index_t part_of_y(index_t part) const { return map_.partial_y + part * token_bytes(); }
  [[nodiscard]] bool is_open(index_t j) const { return open_.empty() || open_[static_cast<std::size_t>(j)] != 0; }
  void row(index_t matrix, index_t j, index_t begin, index_t bytes) { touch_(matrix + j * map_.row_bytes + begin, bytes); }
  void slice(index_t y, ColumnRange range) {
    for (index_t token = 0; token < problem_.batch; ++token) touch_(y + token * columns() * 4 + range.begin * 4, range.size() * 4);
  }

  const Plan& plan_;
  const Problem& problem_;
  AddressMap map_;
  std::span<const std::uint8_t> open_;
  Touch& touch_;
  index_t part_ = 0;
};

/// All phases of one call, items in ascending order.
template <class Touch>
void touch_all(const Plan& plan, const Problem& problem, std::span<const std::uint8_t> open, Touch& touch) {
  const WalkShape shape = walk_shape(problem);
  AddressSink<Touch> sink(plan, problem, open, touch);
  for (int index = 0; index < phase_count(plan); ++index) {
    const Phase phase = phase_at(plan, index);
    for (index_t item = 0; item < item_count(plan, shape, phase); ++item) walk(plan, shape, phase, item, sink);
  }
}

}  // namespace signsplit::sim
