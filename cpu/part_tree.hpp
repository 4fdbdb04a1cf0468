// The tree that adds the parts' y: as soon as two neighbours are there, by whoever was the second to be done.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "signsplit/portability.hpp"

namespace signsplit::cpu {

/// Part p takes in p + s at strides s = 1, 2, 4, ... where p is a multiple of 2s, whenever both have all that is below them. Which
/// two are added is fixed, and so are the bits; who adds them, and when, is not. No barrier is needed between the last products and y,
/// and most of it is added while it is in a cache: 2 us less of a call of 54 (768x3072, bf16, warm) than slices of columns over
/// all parts behind a barrier.
class PartTree {
 public:
  void resize(index_t parts) { halves_done_ = std::vector<std::atomic<std::uint8_t>>(static_cast<std::size_t>(parts)); }

  /// Reports a part as done, and calls add(into, from) for what can be added by now. True when that was all: once in a run, for the last
  /// part. Everything written to y of the parts before is then visible to the caller.
  template <class Add>
  bool done(index_t part, Add&& add) {
    const auto parts = static_cast<index_t>(halves_done_.size());
    for (index_t stride = 1; stride < parts; stride *= 2) {
      const index_t into = part / (2 * stride) * (2 * stride), from = into + stride;
      if (from < parts) {
        if (halves_done_[static_cast<std::size_t>(from)].fetch_xor(1, std::memory_order_acq_rel) == 0) return false;
        add(into, from);
      }
      part = into;
    }
    return true;
  }

 private:
  std::vector<std::atomic<std::uint8_t>> halves_done_;  // [from]: 1 when one of the two is there; 0 again when both are
};

}  // namespace signsplit::cpu
