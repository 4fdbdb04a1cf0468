// All tokens of an input through one layer: what `signsplit run` does between reading and writing.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "signsplit/cpu.hpp"
#include "signsplit/npy.hpp"
#include "signsplit/sim/planner.hpp"
#include "signsplit/weights.hpp"
#include "tools/executor.hpp"
#include "tools/plan_options.hpp"

namespace signsplit::tools {

/// What is known once the options and both files were read and found to fit together.
struct LayerJob {
  Weights weights;
  FloatMatrix x;           ///< [tokens, D]
  index_t batch = 1;       ///< tokens per call; the last call may have fewer
  PlanChoice choice;
  cpu::Options cpu;
  std::unique_ptr<Executor> executor;
  sim::PlanMode planner = sim::PlanMode::estimate;
};

/// The same calls with cpu::Options::exact_mask.
struct ExactMask {
  double time_s = 0;
  Statistics statistics;
  std::vector<std::uint8_t> active;  ///< [tokens, F]
};

/// What came of it.
struct LayerRun {
  std::string strategy;
  std::optional<Plan> plan;          ///< none for the reference
  double time_s = 0;
  Statistics statistics;
  std::vector<float> y;              ///< [tokens, D]
  std::vector<std::uint8_t> active;  ///< [tokens, F], or empty when nobody asked
  std::optional<ExactMask> exact;    ///< when asked for
  std::string how;                   ///< "avx512, 2 threads"
};

/// What a run is asked to leave beside y.
struct MaskRequest {
  bool plain = false, exact = false;
};

/// By a plan (`auto` asks the planner first), the reference or the vendor's GEMM, `batch` tokens per call. Errors: those of
/// the executor and the planner.
[[nodiscard]] Result<LayerRun> run_layer(const LayerJob& job, MaskRequest masks);

}  // namespace signsplit::tools
