// Which way of asking for rows a call takes: found by trying both.
//
// Memory that answers fast wants other requests than memory that answers slowly, and one machine can be either: a host moved the two
// processors of its virtual machine between one cache complex (50 GB/s) and two (80 GB/s) every few minutes. Nothing tells which it is,
// but the time that calls take. Requests never change a bit nor a count, so the executor may try.
#pragma once

#include <chrono>

#include "kernels/kernel_table.hpp"

namespace signsplit::cpu {

/// Compares the two styles by whole calls, in pairs of one call each, and keeps the one that wins six or more of eight until the next
/// trial. Wins in place of mean times, because now and then a call takes a multiple of the time of the others.
class StyleChooser {
 public:
  static constexpr int kPairs = 8, kLeadToChange = 4;
  /// Between two trials. In the 16 calls of a trial the style that is worse by 6 % costs 3 %, so 0.1 % of all time.
  static constexpr int kCallsKept = 401;

  /// Of the call that comes.
  [[nodiscard]] RequestStyle style() const {
    if (call_ >= 2 * kPairs) return kept_;
    return (call_ % 2 == 0) == fast_first(call_ / 2) ? RequestStyle::fast_memory : RequestStyle::slow_memory;
  }

  /// How long the call in that style took.
  void took(std::chrono::nanoseconds duration) {
    if (call_ < 2 * kPairs) {
      if (call_ % 2 == 0) {
        first_of_pair_ = duration;
      } else {
        const bool first_won = first_of_pair_ < duration;  // of two that take the same time the second wins: each style is that in four pairs
        fast_lead_ += first_won == fast_first(call_ / 2) ? 1 : -1;
      }
    }
    ++call_;
    if (call_ == 2 * kPairs) end_trial();
    if (call_ == 2 * kPairs + kCallsKept) call_ = 0;
  }

 private:
  /// Layers that differ and come in turns must not always meet the same style: the order of pairs follows no period of 2, 4 or 8.
  static bool fast_first(int pair) { return (0b01101001 >> pair & 1) != 0; }

  void end_trial() {
    if (fast_lead_ >= kLeadToChange) kept_ = RequestStyle::fast_memory;
    if (fast_lead_ <= -kLeadToChange) kept_ = RequestStyle::slow_memory;
    fast_lead_ = 0;
  }

  RequestStyle kept_ = RequestStyle::slow_memory;
  int call_ = 0;       // since the trial began
  int fast_lead_ = 0;  // pairs that the style for fast memory has won, less those that it has lost
  std::chrono::nanoseconds first_of_pair_{};
};

}  // namespace signsplit::cpu
