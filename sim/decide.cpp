// Decisions: fused against unfused.
#include <algorithm>

#include "lookup.hpp"
#include "signsplit/sim/predict.hpp"

namespace signsplit::sim {

std::string_view to_string(Verdict verdict) noexcept {
  switch (verdict) {
    case Verdict::fuse: return "fuse";
    case Verdict::keep_unfused: return "keep unfused";
    case Verdict::too_close: return "too close to call";
  }
  return "too close to call";
}

std::optional<Decision> decide(std::span<const LabelledPrediction> cases, const Machine& machine) {
  const LabelledPrediction* best[2] = {nullptr, nullptr};  // unfused, fused; the first of equals
  for (const LabelledPrediction& entry : cases) {
    const LabelledPrediction*& place = best[entry.fused ? 1 : 0];
    if (place == nullptr || entry.prediction.time_s < place->prediction.time_s) place = &entry;
  }
  if (best[0] == nullptr || best[1] == nullptr) return std::nullopt;
  const bool fused_wins = best[1]->prediction.time_s < best[0]->prediction.time_s;
  const LabelledPrediction &winner = *best[fused_wins ? 1 : 0], &loser = *best[fused_wins ? 0 : 1];
  Decision decision;
  decision.winner = winner.label;
  decision.loser = loser.label;
  decision.gap_s = loser.prediction.time_s - winner.prediction.time_s;
  decision.uncertainty_s = gap_uncertainty_s(winner.prediction, loser.prediction, machine);
  if (decision.gap_s > decision.uncertainty_s) decision.verdict = fused_wins ? Verdict::fuse : Verdict::keep_unfused;
  return decision;
}

}  // namespace signsplit::sim
