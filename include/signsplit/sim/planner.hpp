// The planner: which plan to run. What `auto` means, wherever it can be said.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "signsplit/sim/predict.hpp"

namespace signsplit::sim {

/// A question to the planner, and the key of its answers in the wisdom file.
struct PlanRequest {
  Problem problem;
  Activity activity = {};  ///< only `active` and `active_union` are used: the rest follows from each candidate
  Residency residency = Residency::cold;
  int threads = 0;         ///< 0: the machine's
  std::string isa = {};    ///< empty: the machine's
  LaunchMode launch_mode = LaunchMode::graph;  ///< GPU
  std::function<Activity(const Plan&)> activity_of = {};  ///< of a candidate, in place of `activity`: measurements; no part of the key
};

enum class PlanMode : std::uint8_t {
  estimate,  ///< the least predicted time; nothing runs
  measure,   ///< the candidates whose predictions are close to the least are timed; the answer goes into the wisdom file
};
[[nodiscard]] std::string_view to_string(PlanMode) noexcept;
[[nodiscard]] std::optional<PlanMode> parse_plan_mode(std::string_view) noexcept;

/// Times plans of one problem in turns (A, B, C, A, B, C, ...) and returns their medians in seconds, in the same order; a
/// plan that cannot run has none (0). The simulator may not include an executor, so whoever wants to measure hands one in.
using PlanTimer = std::function<Result<std::vector<double>>(const PlanRequest& request, std::span<const Plan> plans)>;

struct PlannerOptions {
  PlanMode mode = PlanMode::estimate;
  PlanTimer timer = {};                      ///< needed by measure
  std::filesystem::path wisdom = {};         ///< empty: no wisdom is read or written; see wisdom_path()
  std::function<Status(const Plan&)> can_run = {};  ///< candidates that it refuses are passed over; empty: none
  bool gemm = false;                         ///< the caller can run a vendor's matrix products: see ChosenPlan::gemm
  std::function<Result<double>(const PlanRequest&)> gemm_timer = {};  ///< seconds of those, for measure; empty: predicted
};

/// Batches up to this size are decoding: they keep the bits of the plan whatever a vendor's matrix products would take.
inline constexpr index_t kMostDecodeTokens = 16;

/// A candidate, best first.
struct RankedPlan {
  Plan plan;
  Prediction prediction;
  double measured_s = 0;  ///< 0: not measured
};

struct ChosenPlan {
  enum class Source : std::uint8_t { estimated, measured, wisdom };
  Plan plan;
  Source source = Source::estimated;
  double time_s = 0;                   ///< of the plan: predicted, or measured (now, or when the wisdom was gained)
  /// A vendor's matrix products in f32 are expected to take less than 0.85 of time_s, so that auto gives up the bits of
  /// `plan` for them. Only of f32 arithmetic on CPUs, of batches above kMostDecodeTokens, and where the caller can run them.
  /// `plan` is what to run when the vendor refuses.
  bool gemm = false;
  double gemm_s = 0;                   ///< their time; 0: not looked at
  std::vector<RankedPlan> considered;  ///< empty when the wisdom knew
};
[[nodiscard]] std::string_view to_string(ChosenPlan::Source) noexcept;

/// Default plans of every schedule that gives the bits of row_fused, with and without skip: unfused, row_fused, certified.
[[nodiscard]] std::vector<Plan> lossless_default_plans(const Problem& problem);

/// The plans that the planner chooses from: lossless_default_plans, each with several hidden tiles as well. On CPUs all have the parts of the default plan and give the same bits: so
/// that neither the machine, nor its profile, nor wisdom ever shows in a result. (On a GPU plan_on sets the parts.) sign_split is no candidate: its bits differ, and it never reads less.
[[nodiscard]] std::vector<Plan> candidate_plans(const Problem& problem);

/// The plan to run. Wisdom of this problem, machine, activity (to a factor of √2), residency, threads and instruction set
/// is asked first; measure asks it too: delete the file to measure anew. A tile size other than the default's must be
/// predicted, or measured, at least 1 % faster to be taken.
[[nodiscard]] Result<ChosenPlan> plan_for(const PlanRequest& request, const Machine& machine, const PlannerOptions& options = {});

/// Seconds of the FFN as matrix products of a vendor library, weights widened to f32: for large batches, where B + 10 tokens'
/// multiplications at 0.9 of the peak (model.gemm_token_overhead, model.gemm_efficiency) are more than the stream of the weights.
/// unsupported on GPUs and for w8a8.
[[nodiscard]] Result<double> gemm_time_s(const PlanRequest& request, const Machine& machine);

/// JSON text of one line, the key `auto` of `signsplit predict --json`: label, source, time_s, plan{}, gemm, gemm_s.
[[nodiscard]] std::string to_json(const ChosenPlan& chosen);

/// $SIGNSPLIT_WISDOM, else signsplit/wisdom.json in the user's cache directory; empty when there is none.
[[nodiscard]] std::filesystem::path wisdom_path();

}  // namespace signsplit::sim
