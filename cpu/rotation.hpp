// Where an Ffn's layers come from: a cache, or memory. Decides how rows are read, never a bit.
#pragma once

#include "signsplit/portability.hpp"

namespace signsplit {
class Weights;
}

namespace signsplit::cpu {

/// Layers of no more bytes together are expected in last-level caches. Not what the system says: a virtual machine may be told of all its
/// host's (384 MB where two cores had 32 or 64).
inline constexpr index_t kCachedBytes = index_t{48} << 20;

/// The layers that one Ffn is bound to in turn.
class Rotation {
 public:
  /// Of every layer that is bound; again when it is bound again.
  void bind(const Weights* layer) {
    if (layer == last_) return;
    last_ = layer;
    if (first_ == nullptr) first_ = layer;
    if (layer == first_) {
      layers_ = since_first_ > 0 ? since_first_ : 1;
      since_first_ = 1;
      return;
    }
    ++since_first_;
    if (since_first_ > layers_) layers_ = since_first_;
  }
  /// How many there are, as far as was seen.
  [[nodiscard]] index_t layers() const { return layers_; }

 private:
  const Weights *first_ = nullptr, *last_ = nullptr;
  index_t layers_ = 0, since_first_ = 0;  // since_first_: layers bound since the first was, that one included
};

}  // namespace signsplit::cpu
