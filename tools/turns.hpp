// Timed turns, and which of them count: those during which the machine was what it was when they began.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace signsplit::tools {

/// Asks now and then whether the machine is still what it was.
class Watch {
 public:
  /// `still` empty: it always is.
  explicit Watch(std::function<bool()> still) : still_(std::move(still)) {}
  void ask();
  /// Not within 2 ms of the last answer: small calls are not to be torn apart by questions.
  void ask_if_due();
  /// Number of the last answer.
  [[nodiscard]] std::size_t last() const { return answers_.empty() ? 0 : answers_.size() - 1; }
  /// Whether that answer and the next one are yes.
  [[nodiscard]] bool steady_after(std::size_t answer) const;

 private:
  std::function<bool()> still_;
  std::vector<bool> answers_;
  std::chrono::steady_clock::time_point asked_;
};

/// Seconds of the turns of one case, each with its round and with the number of the last answer before it. Rounds ascend, one turn in each
/// at most.
class Turns {
 public:
  void add(double seconds, const Watch& watch, std::size_t round);
  [[nodiscard]] bool empty() const { return turns_.empty(); }
  /// Seconds, ascending, of the turns that count: between two answers that are yes. Of all turns, when fewer than 3 count.
  [[nodiscard]] std::vector<double> counted(const Watch& watch) const;
  /// Ascending.
  [[nodiscard]] std::vector<double> all() const;
  /// Turns during which the machine was, or may have been, another one; and all turns.
  [[nodiscard]] std::size_t unsteady(const Watch& watch) const;
  [[nodiscard]] std::size_t size() const { return turns_.size(); }
  /// Seconds of the turn of a round, when there is one and it counts; else 0.
  [[nodiscard]] double counted_in(std::size_t round, const Watch& watch) const;
  /// Of the last turn, and one more; 0 without turns.
  [[nodiscard]] std::size_t rounds() const { return turns_.empty() ? 0 : turns_.back().round + 1; }

 private:
  struct Turn {
    double seconds;
    std::size_t answer, round;
  };
  std::vector<Turn> turns_;
};

/// A median beside those of other cases.
struct PairedMedian {
  double seconds = 0;
  double ci90_s = 0;  ///< half width of its 90 % interval
};

/// The fastest unfused and the fastest fused of some cases, when the 90 % interval of their difference covers zero; else nothing. `fused`: of
/// every case, empty where it is no candidate; nor are those without a median.
[[nodiscard]] std::vector<std::size_t> tied_fastest(std::span<const PairedMedian> medians, std::span<const std::optional<bool>> fused);

/// Medians of cases that took turns, without what slowed or sped up a whole round: every turn is divided by the
/// median, over the round's turns that count, of time over the case's own median. So two of them differ by what the schedules differ by, and
/// the machine's drift between rounds, which p10 and p90 contain, does not hide it. The interval is that of a median by order statistics:
/// it holds whatever the distribution. One entry per case; 0 where fewer than 3 turns count.
[[nodiscard]] std::vector<PairedMedian> paired_medians(std::span<const Turns* const> cases, const Watch& watch);

}  // namespace signsplit::tools
