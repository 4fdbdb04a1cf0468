#include "tools/layer_input.hpp"

#include <fmt/format.h>

namespace signsplit::tools {

Status check_input(const FloatMatrix& x, const std::string& input_file, const Weights& weights,
                   const std::string& weights_file) {
  if (x.rows < 1) return invalid_argument(fmt::format("{}: holds no token (its first extent is 0)", input_file));
  if (x.columns != weights.d_model()) {
    return invalid_argument(fmt::format("{}: has {} columns, but {} needs d_model = {} (up.weight [F, D])", input_file,
                                        x.columns, weights_file, weights.d_model()));
  }
  return {};
}

Result<LayerInput> load_layer_input(const std::string& weights_file, const std::string& input_file,
                                    std::optional<ParsedActivation> activation) {
  Result<Weights> weights = load_weights(weights_file, activation);
  if (!weights) return weights.status();
  Result<FloatMatrix> x = read_matrix(input_file);
  if (!x) return x.status();
  if (const Status status = check_input(*x, input_file, *weights, weights_file); !status) return status;
  return LayerInput{std::move(*weights), std::move(*x)};
}

}  // namespace signsplit::tools
