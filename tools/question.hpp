// What predict, explain and trace ask about: an FFN, a machine, the residency of the weights, threads.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "signsplit/sim/predict.hpp"
#include "tools/activity_source.hpp"
#include "tools/cpu_options.hpp"
#include "tools/problem_options.hpp"

namespace signsplit::tools {

struct QuestionOptions {
  std::string hardware = "host", residency = "cold", unfused_launch = "one_region", launch = "graph";
  std::string activity;  ///< a file; empty: --active and the Gaussian model
  ProblemOptions problem;
  CpuOptions cpu;
};
void add_question_options(CLI::App& command, QuestionOptions& options);

/// --unfused-launch.
void add_unfused_launch_option(CLI::App& command, std::string& launch);
[[nodiscard]] Result<Launch> parse_unfused_launch(const std::string& text);

/// --launch: how kernels are started on a GPU.
void add_launch_mode_option(CLI::App& command, std::string& mode);
[[nodiscard]] Result<sim::LaunchMode> parse_launch_mode_option(const std::string& text);

struct Question {
  ProblemChoice choice;
  sim::Machine machine;
  sim::Residency residency = sim::Residency::cold;
  Launch unfused_launch = Launch::one_region;
  sim::LaunchMode launch_mode = sim::LaunchMode::graph;
  int threads = 0;   ///< 0: the machine's
  std::string isa;   ///< empty: the machine's
  ActivitySource activity;  ///< `choice.active` is its fraction of active units

  /// The scenario of a plan as the machine would be given it; an unfused one is launched as asked for.
  [[nodiscard]] sim::Scenario scenario(Plan plan) const;
};
[[nodiscard]] Result<Question> resolve(const QuestionOptions& options);

struct PredictedPlan {
  sim::Scenario scenario;
  sim::Prediction prediction;
  [[nodiscard]] const Plan& plan() const { return scenario.plan; }
};
/// Every default schedule that the machine's profile can answer for; the first reason why not, when it can for none.
[[nodiscard]] Result<std::vector<PredictedPlan>> predict_all(const Question& question);

/// Best fused against best unfused. `ignore` computes something else, and takes no part.
[[nodiscard]] std::optional<sim::Decision> decide_among(const std::vector<PredictedPlan>& cases, const sim::Machine& machine);

}  // namespace signsplit::tools
