// Predictions: level 0 (roofline) and level 1 (analytic) of the simulator.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "signsplit/plan.hpp"
#include "signsplit/sim/machine.hpp"
#include "signsplit/statistics.hpp"

namespace signsplit::sim {

/// The data-dependent part of a run: what the sinks decided. As fractions of F·B or of rows, so that one activity serves
/// every shape. Fields left empty are filled in by expected_activity. activity_from turns a run's counters into fractions
/// that give back the same counts.
struct Activity {
  double active = 1.0;                       ///< fraction of (unit, token) pairs that are open
  std::optional<double> active_union = {};   ///< fraction of units open for a token of the batch; default 1 − (1 − a)^B
  std::optional<double> up_rows = {};        ///< gated with skip, not sign_split: rows of W1 read, per unit
  std::optional<double> pushed = {};         ///< rows of W2 that down_tile reads, per unit and down_tile event
  std::optional<double> down_again = {};     ///< sign_split with skip: reads of rows of W2 that the hidden tile had read, per unit
  std::optional<double> repaired = {};       ///< rows of W2 that correct reads, per unit
  std::optional<double> redone = {};         ///< rows of W1 that correct reads again, per unit
  std::optional<double> rechecked = {};      ///< exact sign decisions, per unit and token
  std::optional<double> refined = {};        ///< certified: units that the plane does not prove closed, per unit
  std::optional<double> refined_read = {};   ///< certified: elements of their rows that are read (judges_again), per element of the matrix
  std::optional<double> raw = {};            ///< placement residual: those of them whose rows are kept whole, per unit; default 0
};
[[nodiscard]] Activity activity_from(const Statistics& statistics, const Plan& plan, const Problem& problem);

/// Fills the optional fields for a plan from a model of the pre-activations: Gaussian, independent of each other and
/// between K tiles, with a bias (part of the first K tile) such that `active` of them are open.
[[nodiscard]] Activity expected_activity(double active, const Plan& plan, const Problem& problem);

/// Bytes and counts of a run, the same fields and the same accounting as the executors'. Obtained by sending the walk's
/// events to a counting sink. All zero when the plan is not valid for the problem.
[[nodiscard]] Statistics count(const Plan& plan, const Problem& problem, const Activity& activity);

enum class Residency : std::uint8_t {
  cold,  ///< the weights come from beyond the last-level cache, as when decoding through a whole model
  warm,  ///< the same layer over and over
};

/// How kernels are started on a GPU. It decides how dear a boundary is, so it is an input of every comparison.
enum class LaunchMode : std::uint8_t {
  stream,        ///< one launch after the other
  graph,         ///< nodes of a graph
  programmatic,  ///< programmatic dependent launch: the next kernel starts, and asks for its weights, while this one drains
  cooperative,   ///< every kernel as a cooperative launch
};
[[nodiscard]] std::string_view to_string(LaunchMode) noexcept;
[[nodiscard]] std::optional<LaunchMode> parse_launch_mode(std::string_view) noexcept;

/// Bandwidth that `inflight_bytes` give when each is answered after `latency_s` and nothing gives more than `full_Bps`:
/// u / (1 + (u / full)^sharpness)^(1/sharpness), u = inflight / latency (Little's law with a soft corner).
[[nodiscard]] double saturating(double inflight_bytes, double latency_s, double full_Bps, double sharpness);

/// Where the time goes. Every term in seconds; they add up to the prediction exactly, in the order of `terms()`.
struct Terms {
  double launch = 0;      ///< fork and join of parallel regions
  double first_byte = 0;  ///< latency before the first weights arrive, once per phase
  double stream = 0;      ///< new weight bytes over the bandwidth, with the stalls where the address stream jumps
  double compute = 0;     ///< arithmetic not hidden behind the stream
  double barrier = 0;     ///< barriers between phases
  double reduction = 0;   ///< activations through the cache: partial y written, read and added; h and x
  double imbalance = 0;   ///< waiting for the slowest worker
  double repair = 0;      ///< sign_split's corrections: rows read again and exact sign decisions

  [[nodiscard]] double total() const {
    return launch + first_byte + stream + compute + barrier + reduction + imbalance + repair;
  }
  [[nodiscard]] std::vector<std::pair<std::string, double>> named() const;
};

struct Scenario {
  Problem problem;
  Plan plan;
  Activity activity = {};
  Residency residency = Residency::cold;
  int threads = 0;   ///< workers: threads of a CPU, blocks of a GPU; 0: the machine's
  std::string isa = {};   ///< empty: the machine's
  LaunchMode launch_mode = LaunchMode::graph;  ///< GPU
};

struct Prediction {
  double time_s = 0, low_s = 0, high_s = 0;  ///< low..high is meant to hold 90 % of measured medians
  Terms terms;
  Statistics bytes;
  double memory = 1.0;  ///< share of the weights' bytes that come from main memory and no cache, 0..1
};

/// The plan as this machine would be given it. CPU: unchanged. GPU: as many parts as there are multiprocessors, since a block
/// takes whole parts, and certified without K tiles, since it reads rows whole; the other numbers as they are.
[[nodiscard]] Plan plan_on(const Machine& machine, const Problem& problem, Plan plan);

/// Level 1. invalid_argument when the plan is not valid for the problem or the machine lacks a needed field.
[[nodiscard]] Result<Prediction> predict(const Scenario& scenario, const Machine& machine);

/// Level 0: weight bytes of the dense layer, and of h where it is stored, over the machine's best DRAM bandwidth; and the
/// same plus a constant launch, one for a fused plan and two for an unfused one. Both ignore residency and activity.
[[nodiscard]] double roofline_s(const Scenario& scenario, const Machine& machine);
[[nodiscard]] double roofline_launch_s(const Scenario& scenario, const Machine& machine);

/// The comparison that users came for.
enum class Verdict : std::uint8_t { fuse, keep_unfused, too_close };
[[nodiscard]] std::string_view to_string(Verdict) noexcept;  ///< "fuse", "keep unfused", "too close to call"

struct Decision {
  std::string winner, loser;  ///< labels
  double gap_s = 0;           ///< loser − winner, ≥ 0
  double uncertainty_s = 0;   ///< gaps below this are not to be decided
  Verdict verdict = Verdict::too_close;
};

/// One alternative of a decision.
struct LabelledPrediction {
  std::string label;
  bool fused = true;
  Prediction prediction;
};

/// The best fused plan against the best unfused plan of the list; empty when either kind is missing. Terms that both share
/// do not add to the uncertainty.
[[nodiscard]] std::optional<Decision> decide(std::span<const LabelledPrediction> cases, const Machine& machine);

/// JSON text of one line with the keys of `signsplit predict --json`: strategy, variant, repair, skip, label, time_s, low_s,
/// high_s, terms{}, bytes{}.
[[nodiscard]] std::string to_json(const Plan& plan, const Prediction& prediction);
/// winner, loser, gap_s, uncertainty_s, verdict; "null" when there was nothing to decide.
[[nodiscard]] std::string to_json(const std::optional<Decision>& decision);

}  // namespace signsplit::sim
