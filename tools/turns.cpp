#include "tools/turns.hpp"

#include <algorithm>

namespace signsplit::tools {

void Watch::ask() {
  if (!still_) return;
  answers_.push_back(still_());
  asked_ = std::chrono::steady_clock::now();
}

void Watch::ask_if_due() {
  constexpr std::chrono::milliseconds kApart{2};
  if (still_ && std::chrono::steady_clock::now() - asked_ >= kApart) ask();
}

bool Watch::steady_after(std::size_t answer) const {
  return !still_ || (answer + 1 < answers_.size() && answers_[answer] && answers_[answer + 1]);
}

void Turns::add(double seconds, const Watch& watch) { turns_.push_back({seconds, watch.last()}); }

std::vector<double> Turns::counted(const Watch& watch) const {
  constexpr std::size_t kLeast = 3;
  std::vector<double> seconds;
  for (const Turn& turn : turns_) {
    if (watch.steady_after(turn.answer)) seconds.push_back(turn.seconds);
  }
  if (seconds.size() < kLeast) return all();
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

std::vector<double> Turns::all() const {
  std::vector<double> seconds;
  for (const Turn& turn : turns_) seconds.push_back(turn.seconds);
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

std::size_t Turns::unsteady(const Watch& watch) const {
  return static_cast<std::size_t>(std::count_if(turns_.begin(), turns_.end(), [&](const Turn& turn) { return !watch.steady_after(turn.answer); }));
}

}  // namespace signsplit::tools
