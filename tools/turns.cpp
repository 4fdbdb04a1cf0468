#include "tools/turns.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/quantile.hpp"


namespace signsplit::tools {
namespace {

constexpr std::size_t kLeast = 3;  // turns that count, or a case has no median of its own

/// Half the distance of the two order statistics between which the median of the distribution lies in 90 of 100 cases: n/2 ∓ 1.645·√n/2.
double interval_of_median(const std::vector<double>& sorted) {
  const double n = static_cast<double>(sorted.size()), below = std::max(0.0, std::floor(0.5 * n - 0.8225 * std::sqrt(n)));
  const auto first = static_cast<std::size_t>(below);
  return 0.5 * (sorted[sorted.size() - 1 - first] - sorted[first]);
}

/// What a round took of what it usually takes: the median over the cases whose turn counts.
double level_of(std::span<const Turns* const> cases, const std::vector<PairedMedian>& own, std::size_t round, const Watch& watch) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const double seconds = cases[i]->counted_in(round, watch);
    if (seconds > 0.0 && own[i].seconds > 0.0) ratios.push_back(seconds / own[i].seconds);
  }
  return median(std::move(ratios));
}

}  // namespace

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

void Turns::add(double seconds, const Watch& watch, std::size_t round) { turns_.push_back({seconds, watch.last(), round}); }

std::vector<double> Turns::counted(const Watch& watch) const {
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

double Turns::counted_in(std::size_t round, const Watch& watch) const {
  const auto turn = std::lower_bound(turns_.begin(), turns_.end(), round, [](const Turn& one, std::size_t wanted) { return one.round < wanted; });
  return turn != turns_.end() && turn->round == round && watch.steady_after(turn->answer) ? turn->seconds : 0.0;
}

std::size_t Turns::unsteady(const Watch& watch) const {
  return static_cast<std::size_t>(std::count_if(turns_.begin(), turns_.end(), [&](const Turn& turn) { return !watch.steady_after(turn.answer); }));
}

std::vector<std::size_t> tied_fastest(std::span<const PairedMedian> medians, std::span<const std::optional<bool>> fused) {
  std::optional<std::size_t> fastest[2];
  for (std::size_t i = 0; i < medians.size(); ++i) {
    if (!fused[i] || !(medians[i].seconds > 0.0)) continue;
    std::optional<std::size_t>& place = fastest[*fused[i] ? 1 : 0];
    if (!place || medians[i].seconds < medians[*place].seconds) place = i;
  }
  if (!fastest[0] || !fastest[1]) return {};
  const PairedMedian &a = medians[*fastest[0]], &b = medians[*fastest[1]];
  if (std::abs(a.seconds - b.seconds) > std::hypot(a.ci90_s, b.ci90_s)) return {};
  return {*fastest[0], *fastest[1]};
}

std::vector<PairedMedian> paired_medians(std::span<const Turns* const> cases, const Watch& watch) {
  std::vector<PairedMedian> medians(cases.size());
  std::vector<std::vector<double>> turns(cases.size());
  std::size_t rounds = 0;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    rounds = std::max(rounds, cases[i]->rounds());
    for (std::size_t round = 0; round < cases[i]->rounds(); ++round) {
      if (const double seconds = cases[i]->counted_in(round, watch); seconds > 0.0) turns[i].push_back(seconds);
    }
    if (turns[i].size() >= kLeast) medians[i].seconds = median(turns[i]);
    turns[i].clear();
  }
  for (std::size_t round = 0; round < rounds; ++round) {
    const double level = level_of(cases, medians, round, watch);
    for (std::size_t i = 0; i < cases.size() && level > 0.0; ++i) {
      if (const double seconds = cases[i]->counted_in(round, watch); seconds > 0.0) turns[i].push_back(seconds / level);
    }
  }
  for (std::size_t i = 0; i < cases.size(); ++i) {
    if (turns[i].size() < kLeast) continue;
    std::sort(turns[i].begin(), turns[i].end());
    medians[i].seconds = quantile(turns[i], 0.5);
    medians[i].ci90_s = interval_of_median(turns[i]);
  }
  return medians;
}

}  // namespace signsplit::tools
