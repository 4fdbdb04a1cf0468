// Shapes of published models: those whose FFNs have activations of the ReLU family, and a few others.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "signsplit/problem.hpp"

namespace signsplit {

struct Model {
  std::string_view name;      ///< "opt-6.7b"
  index_t d_model, d_ff;
  Activation activation;
  bool gated;
  double reported_zeros;      ///< fraction of zero activations that others report, 0 when none was found
  std::string_view source;
};

[[nodiscard]] std::span<const Model> models() noexcept;
[[nodiscard]] std::optional<Model> find_model(std::string_view name) noexcept;

}  // namespace signsplit
