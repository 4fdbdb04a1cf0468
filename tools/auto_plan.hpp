// `auto`: the planner as the command uses it, with the wisdom file and an executor.
#pragma once

#include <span>

#include "signsplit/cpu.hpp"
#include "signsplit/sim/planner.hpp"
#include "signsplit/weights.hpp"
#include "tools/executor.hpp"
#include "tools/json_output.hpp"
#include "tools/question.hpp"

namespace signsplit::tools {

/// What `auto` would run for a question of predict; asks the wisdom file, measures nothing.
[[nodiscard]] Result<sim::ChosenPlan> plan_for_question(const Question& question);

/// What `auto` runs on an executor of a layer of which the fraction `choice.active` is open; asks the wisdom file, measures nothing.
[[nodiscard]] Result<sim::ChosenPlan> plan_for_executor(const ProblemChoice& choice, sim::Residency residency, const Executor& executor,
                                                        const cpu::Options& options);

/// What `auto` runs on these weights: the fraction of active units is measured on `x` [batch, D], then the planner is
/// asked, on the executor's profile. `measure` times the candidates on these weights and this x; on the CPU only. `prefill`:
/// the answer may be a vendor's matrix products.
[[nodiscard]] Result<sim::ChosenPlan> plan_for_layer(const Weights& weights, std::span<const float> x, index_t batch, Executor& executor,
                                                     const cpu::Options& options, sim::PlanMode mode, bool prefill);

/// "auto would run row_fused+skip, hidden tile 128 (1.30 ms, estimated)".
[[nodiscard]] std::string chosen_text(const sim::ChosenPlan& chosen, std::string_view verb = "would run");
/// plan{}, label, source, time_s, gemm, gemm_s.
[[nodiscard]] Json chosen_json(const sim::ChosenPlan& chosen);

void add_planner_option(CLI::App& command, std::string& mode);
/// "estimate" or "measure".
[[nodiscard]] Result<sim::PlanMode> parse_planner(const std::string& text);

}  // namespace signsplit::tools
