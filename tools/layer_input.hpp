// A layer and inputs that fit it, from files.
#pragma once

#include <optional>
#include <string>

#include "signsplit/npy.hpp"
#include "signsplit/weights.hpp"

namespace signsplit::tools {

struct LayerInput {
  Weights weights;
  FloatMatrix x;  ///< [tokens, D]
};

/// Ok when x holds a token or more, of D elements each; the message names both files.
[[nodiscard]] Status check_input(const FloatMatrix& x, const std::string& input_file, const Weights& weights,
                                 const std::string& weights_file);

/// Reads both files and checks that they fit together.
[[nodiscard]] Result<LayerInput> load_layer_input(const std::string& weights_file, const std::string& input_file,
                                                  std::optional<ParsedActivation> activation = std::nullopt);

}  // namespace signsplit::tools
