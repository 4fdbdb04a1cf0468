// The shipped layer with its real inputs: every schedule run on it, and checked against the exact reference.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "signsplit/cpu.hpp"
#include "signsplit/reference.hpp"
#include "signsplit/weights.hpp"
#include "tools/report_data.hpp"

namespace signsplit::tools {

/// A layer, some of its inputs, and what they give exactly.
struct RealInputs {
  Weights weights;
  std::vector<float> x;      ///< [tokens, D]
  index_t tokens = 0;
  ReferenceResult exact;     ///< composite, of all tokens
  double active = 0;         ///< fraction of open (unit, token) pairs
  std::string weights_file, input_file;  ///< names without directories
};

/// Reads layer0-relu.safetensors and the first `tokens` rows of layer0-x.npy from the directory.
[[nodiscard]] Result<RealInputs> load_real_inputs(const std::filesystem::path& directory, index_t tokens, int threads);

/// Runs every default schedule token by token, `ignore` too, checks each and times them interleaved for `budget_s`
/// seconds. Predictions are taken from `predicted`, the group of the same shape and activity; nullptr: there is none.
[[nodiscard]] RealLayer run_real_layer(const RealInputs& inputs, const cpu::Options& options, double budget_s,
                                       const ValidationGroup* predicted,
                                       const std::function<void(double fraction, const std::string& what)>& progress);

}  // namespace signsplit::tools
