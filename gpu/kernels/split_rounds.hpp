// The rounds of sign_split, through which producer and consumers go alike, and what the producer does in them. A round is one
// K tile; the last one of a hidden tile repairs too.
#pragma once

#include "producer.hpp"

namespace signsplit::gpu {

/// Numbers the lists of a block, of each kind in its own sequence.
class ListNumbers {
 public:
  SIGNSPLIT_DEVICE int next(ListKind kind) { return kind == ListKind::down ? down_++ : kind == ListKind::up ? up_++ : first_++; }

 private:
  int first_ = 0, up_ = 0, down_ = 0;
};

/// Goes over the K tiles of the tiles of a block's parts: steps.round(tile, k).
template <class Block, class Steps>
SIGNSPLIT_DEVICE void run_split_parts(Block& block, const KernelArguments& a, Steps& steps) {
  const int k_tiles = static_cast<int>(k_tile_count(a.plan, a.shape));
  int first_number = 0;
  for (index_t part = block.cta(); part < a.plan.parts; part += block.ctas()) {
    TileFinder all(a.problem);
    walk(a.plan, a.shape, Phase::fused, part, all);
    steps.begin(part, Phase::fused, all);
    SIGNSPLIT_NO_UNROLL
    for (int n = 0; n < all.count(); ++n) {
      TileFinder finder(a.problem, n);
      walk(a.plan, a.shape, Phase::fused, part, finder);
      const HiddenRange hidden = finder.found();
      steps.round(Tile{static_cast<int>(hidden.begin), static_cast<int>(hidden.size()), first_number + n / k_tiles}, finder.k());
    }
    steps.finish();
    first_number += all.count() / k_tiles;
  }
}

template <class Block>
class SplitProducerSteps {
 public:
  SIGNSPLIT_DEVICE SplitProducerSteps(Block& block, const KernelArguments& a) : a_(a), copier_(block, a) {}

  SIGNSPLIT_DEVICE void begin(index_t, Phase, const TileFinder&) {}
  SIGNSPLIT_DEVICE void finish() {}
  SIGNSPLIT_DEVICE void round(Tile tile, KRange k) {
    const DeviceWeights& w = a_.weights;
    const bool gated = a_.problem.gated;
    const std::byte* first = gated ? w.gate : w.up;
    copier_.copy_range(first, tile.begin, tile.units, static_cast<int>(k.begin), static_cast<int>(k.end));
    if (gated) copier_.copy_range(w.up, tile.begin, tile.units, static_cast<int>(k.begin), static_cast<int>(k.end));
    copy_list(w.down, tile, ListKind::down);
    if (!k.last) return;
    copy_list(first, tile, ListKind::survivors);
    if (gated) copy_list(w.up, tile, ListKind::up);
    copy_list(w.down, tile, ListKind::down);
  }

 private:
  SIGNSPLIT_DEVICE void copy_list(const std::byte* matrix, Tile tile, ListKind kind) {
    copier_.copy_list(matrix, tile.begin, kind, numbers_.next(kind));
  }

  const KernelArguments& a_;
  RowCopier<Block> copier_;
  ListNumbers numbers_;
};

}  // namespace signsplit::gpu
