// Which way of asking for rows a call takes: found by trying both.
//
// Memory that answers fast wants other requests than memory that answers slowly, and one machine can be either: a host moved the two
// processors of its virtual machine between one cache complex (50 GB/s) and two (80 GB/s) every few minutes. Nothing tells which it is,
// but the time that calls take. Requests never change a bit nor a count, so the executor may try.
#pragma once

#include <algorithm>
#include <chrono>

#include "kernels/kernel_table.hpp"

namespace signsplit::cpu {

/// Compares the two styles in pairs of calls on like layers, one of each: many at the beginning, then one now and then. The style that was
/// faster gains by how much it was, within limits, because now and then a call takes a multiple of the time of the others, and the other
/// loses it: so it is given up where the other wins for some time. Wins alone, whatever they measure, found 3 % too late: a call differs by as much
/// from the one before.
class StyleChooser {
 public:
  static constexpr int kFirstPairs = 16;
  /// Between two pairs later: the style that is worse by 6 % then costs 0.15 % of all time.
  static constexpr int kCallsBetween = 19;
  /// A layer that does not come again for so many calls is not waited for.
  static constexpr int kPatience = 256;
  /// Of the time of a call, in thousandths: what a pair counts at most, and what a style can have.
  static constexpr int kMostOfPair = 50, kMost = 200;

  /// Of the call that comes. `layer`: the same for calls that should take the same time.
  [[nodiscard]] RequestStyle style(const void* layer) const {
    const RequestStyle kept = gained_ > 0 ? RequestStyle::fast_memory : RequestStyle::slow_memory;
    if (layer_ != nullptr) return layer == layer_ ? other(first_style()) : kept;
    return calls_ == 0 ? first_style() : kept;
  }

  /// How long that call took.
  void took(const void* layer, std::chrono::nanoseconds duration) {
    if (layer_ != nullptr && layer == layer_) {
      end_pair(duration);
    } else if (layer_ != nullptr) {
      if (++calls_ == kPatience) {
        layer_ = nullptr;
        calls_ = 0;
      }
    } else if (calls_ == 0) {
      layer_ = layer;
      first_took_ = duration;
    } else {
      --calls_;
    }
  }

 private:
  static RequestStyle other(RequestStyle style) {
    return style == RequestStyle::fast_memory ? RequestStyle::slow_memory : RequestStyle::fast_memory;
  }
  /// Pairs begin with an even call of all, then with an odd one, and so on: in four pairs each style is twice the first, and twice even. A caller may
  /// do something else before every second call.
  [[nodiscard]] RequestStyle first_style() const { return pairs_ / 2 % 2 == 0 ? RequestStyle::fast_memory : RequestStyle::slow_memory; }

  void end_pair(std::chrono::nanoseconds second_took) {
    const auto first = static_cast<double>(first_took_.count()), second = static_cast<double>(second_took.count());
    const double by = std::clamp(2000.0 * (second - first) / std::max(first + second, 1.0), -1.0 * kMostOfPair, 1.0 * kMostOfPair);  // the first was faster
    gained_ = std::clamp(gained_ + (first_style() == RequestStyle::fast_memory ? by : -by), -1.0 * kMost, 1.0 * kMost);
    ++pairs_;
    layer_ = nullptr;
    calls_ = pairs_ < kFirstPairs ? 1 : kCallsBetween;
  }

  const void* layer_ = nullptr;  // of the pair whose second call is waited for; null: of none
  std::chrono::nanoseconds first_took_{};
  unsigned pairs_ = 0;
  int calls_ = 0;       // that were waited for the second; or are still to come before the first
  double gained_ = 0.0;  // by the style for fast memory, in thousandths of a call; the other has lost it
};

}  // namespace signsplit::cpu
