// auto: the plan of a layer on this machine. Puts the planner of the simulator and the CPU executor together, which know
// nothing of each other.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>

#include "signsplit/cpu.hpp"
#include "signsplit/sim/planner.hpp"
#include "signsplit/weights.hpp"

namespace signsplit {

/// How a layer's plan is chosen.
struct AutoOptions {
  cpu::Options cpu = {};                    ///< how the plan will run
  sim::PlanMode mode = sim::PlanMode::estimate;
  sim::Residency residency = sim::Residency::cold;
  std::string hardware = "host";            ///< as find_machine() takes it
  std::filesystem::path wisdom = sim::wisdom_path();  ///< empty: none is read or written
  /// For callers who can run the layer as a vendor's matrix products: seconds of one call, or why not. Given, the answer may be
  /// ChosenPlan::gemm, of large batches. estimate does not call it.
  std::function<Result<double>()> matrix_products = {};
};

/// The plan that the planner chooses for these weights and a batch of tokens like `x` [batch, D]: one call of row_fused tells
/// which units are open; then the least predicted time decides (estimate), or the least time measured on these weights and this
/// x, of the candidates close to it, which the wisdom file remembers (measure: about a second). On CPUs the plan's bits are those
/// of row_fused's default plan. Errors are those of Ffn::create, find_machine and plan_for.
[[nodiscard]] Result<sim::ChosenPlan> choose_plan(const Weights& weights, std::span<const float> x, index_t batch = 1,
                                                  const AutoOptions& options = {});

}  // namespace signsplit
