// Why an additive offset does not work: it makes ReLU linear on all inputs, and so the network too.
#include <algorithm>
#include <cmath>

#include "signsplit/reference.hpp"
#include "studies/study.hpp"

namespace signsplit::studies {
namespace {

/// ReLU of a value that was lifted above zero first, and lowered again: what the offset makes of it.
double offset_relu(double z, double offset) { return std::max(z + offset, 0.0) - offset; }

/// Σ_j h_j·W2[j] for one token, in double. h is [F].
std::vector<double> second_product(const Weights& weights, std::span<const double> h) {
  std::vector<double> y(static_cast<std::size_t>(weights.d_model()));
  for (index_t j = 0; j < weights.d_ff(); ++j) {
    for (index_t column = 0; column < weights.d_model(); ++column) {
      y[static_cast<std::size_t>(column)] +=
          h[static_cast<std::size_t>(j)] * static_cast<double>(weights.down_at(j, column));
    }
  }
  return y;
}

double squared_distance(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

/// Relative distance of the offset network to the ReLU network, and to the linear one, over all tokens.
Status examine(const Layer& layer, const Settings& settings, Table& table) {
  if (layer.weights.gated() || layer.weights.activation().kind != ActivationKind::relu) return {};  // the argument is about relu
  const index_t tokens = std::min<index_t>(layer.tokens, 16);
  const auto f = static_cast<std::size_t>(layer.weights.d_ff()), d = static_cast<std::size_t>(layer.weights.d_model());
  const auto exact = reference(layer.weights, std::span(layer.x).first(static_cast<std::size_t>(tokens) * d), tokens,
                               ReferenceMode::staged, settings.threads);
  if (!exact) return exact.status();
  const double offset = -static_cast<double>(*std::min_element(exact->z.begin(), exact->z.end()));
  double from_relu = 0, from_linear = 0, size_relu = 0, size_linear = 0;
  for (std::size_t t = 0; t < static_cast<std::size_t>(tokens); ++t) {
    std::vector<double> linear(f), relu(f), lifted(f);
    for (std::size_t j = 0; j < f; ++j) {
      linear[j] = static_cast<double>(exact->z[t * f + j]);
      relu[j] = std::max(linear[j], 0.0);
      lifted[j] = offset_relu(linear[j], offset);
    }
    const std::vector<double> zero(d), y = second_product(layer.weights, relu);
    const std::vector<double> y_lifted = second_product(layer.weights, lifted), y_linear = second_product(layer.weights, linear);
    from_relu += squared_distance(y_lifted, y);
    from_linear += squared_distance(y_lifted, y_linear);
    size_relu += squared_distance(y, zero);
    size_linear += squared_distance(y_linear, zero);
  }
  table.rows.push_back({layer.name, offset, std::sqrt(from_relu / size_relu), std::sqrt(from_linear / size_linear)});
  return {};
}

Result<Findings> run(const Settings& settings) {
  constexpr double kOffset = 2.0;  // enough for |z| ≤ 2
  Findings findings{{{"counterexample", {"z", "relu(z)", "offset 2: relu(z + 2) - 2"}},
                     {"layers", {"layer", "offset", "relative distance to the relu network", "to the linear network"}}},
                    {"ReLU, and ReLU of a value with an offset that is taken back", "z", "h"}};
  Series relu{"relu(z)"}, lifted{"relu(z + 2) - 2"};
  for (double z = -kOffset; z <= kOffset; z += 1.0) {
    findings.tables[0].rows.push_back({z, std::max(z, 0.0), offset_relu(z, kOffset)});
    relu.points.emplace_back(z, std::max(z, 0.0));
    lifted.points.emplace_back(z, offset_relu(z, kOffset));
  }
  findings.plot.series = {std::move(relu), std::move(lifted)};
  for (const Layer& layer : settings.layers) {
    if (const Status status = examine(layer, settings, findings.tables[1]); !status) return status;
  }
  return findings;
}

}  // namespace

Study additive_offset() { return {"additive_offset", "Can an additive offset make ReLU linear without changing the result?", run}; }

}  // namespace signsplit::studies
