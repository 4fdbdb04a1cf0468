// Timed turns, and which of them count: those during which the machine was what it was when they began.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
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

/// Seconds of the turns of one case, each with the number of the last answer before it.
class Turns {
 public:
  void add(double seconds, const Watch& watch);
  [[nodiscard]] bool empty() const { return turns_.empty(); }
  /// Seconds, ascending, of the turns that count: between two answers that are yes. Of all turns, when fewer than 3 count.
  [[nodiscard]] std::vector<double> counted(const Watch& watch) const;
  /// Ascending.
  [[nodiscard]] std::vector<double> all() const;
  /// Turns during which the machine was, or may have been, another one; and all turns.
  [[nodiscard]] std::size_t unsteady(const Watch& watch) const;
  [[nodiscard]] std::size_t size() const { return turns_.size(); }

 private:
  struct Turn {
    double seconds;
    std::size_t answer;
  };
  std::vector<Turn> turns_;
};

}  // namespace signsplit::tools
