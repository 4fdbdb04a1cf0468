#include "tools/report_real_layer.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <span>

#include <fmt/format.h>

#include "core/quantile.hpp"
#include "signsplit/npy.hpp"

namespace signsplit::tools {
namespace {

using Clock = std::chrono::steady_clock;
constexpr const char* kWeightsFile = "layer0-relu.safetensors";
constexpr const char* kInputFile = "layer0-x.npy";
/// Calls of one case in a row while timing: the other cases' workspaces leave the caches in the first.
constexpr index_t kCallsInARow = 4;

template <class T>
std::span<T> row(std::vector<T>& matrix, index_t token, index_t columns) {
  return std::span<T>(matrix).subspan(static_cast<std::size_t>(token * columns), static_cast<std::size_t>(columns));
}
std::span<const float> input(const RealInputs& inputs, index_t token) {
  const index_t columns = inputs.weights.d_model();
  return std::span<const float>(inputs.x).subspan(static_cast<std::size_t>(token * columns), static_cast<std::size_t>(columns));
}

/// A schedule while it is run.
struct Subject {
  RealLayerCase result;
  std::optional<cpu::Ffn> ffn;
  std::vector<float> y;             // [tokens, D]
  std::vector<std::uint8_t> mask;   // [tokens, F]
  std::vector<double> seconds;
  [[nodiscard]] bool alive() const { return result.error.empty(); }
};

Status run_all_tokens(Subject& subject, const RealInputs& inputs) {
  const index_t d_model = inputs.weights.d_model(), d_ff = inputs.weights.d_ff();
  subject.y.assign(static_cast<std::size_t>(inputs.tokens * d_model), std::numeric_limits<float>::quiet_NaN());
  subject.mask.assign(static_cast<std::size_t>(inputs.tokens * d_ff), 2);
  for (index_t token = 0; token < inputs.tokens; ++token) {
    Status status = subject.ffn->run(input(inputs, token), row(subject.y, token, d_model), row(subject.mask, token, d_ff));
    if (!status.ok()) return status;
    subject.result.statistics += subject.ffn->report().statistics;
  }
  return {};
}

Subject open(const RealInputs& inputs, const Plan& plan, const cpu::Options& options) {
  Subject subject;
  subject.result.plan = plan;
  subject.result.label = label(plan);
  auto ffn = cpu::Ffn::create(inputs.weights, plan, 1, options);
  if (!ffn.ok()) {
    subject.result.error = ffn.message();
    return subject;
  }
  subject.ffn.emplace(std::move(ffn).value());
  if (const Status status = run_all_tokens(subject, inputs); !status.ok()) subject.result.error = status.message();
  return subject;
}

double half_ulp(float y) {
  const float size = std::fabs(y);
  return 0.5 * (static_cast<double>(std::nextafter(size, std::numeric_limits<float>::infinity())) - static_cast<double>(size));
}

/// Against the reference: the bound is on the distance to the exact real number, the reference is that number rounded once.
void check_bound(Subject& subject, const RealInputs& inputs) {
  RealLayerCase& result = subject.result;
  const Result<std::vector<double>> bound = error_bound(result.plan, inputs.weights, inputs.x, inputs.tokens);
  if (!bound.ok()) {
    result.error = bound.message();
    return;
  }
  result.within_bound = bound->size() == subject.y.size();
  for (std::size_t i = 0; i < subject.y.size() && result.within_bound; ++i) {
    const float exact = inputs.exact.y[i];
    const double error = std::abs(static_cast<double>(subject.y[i]) - static_cast<double>(exact));
    const double fraction = error / ((*bound)[i] + half_ulp(exact));
    result.max_ulp = std::max(result.max_ulp, ulp_distance(subject.y[i], exact));
    // Written so that a NaN is outside.
    result.within_bound = fraction <= 1;
    result.worst_error = std::max(result.worst_error, error);
    result.worst_bound_fraction = std::max(result.worst_bound_fraction, fraction);
  }
}

void check(Subject& subject, const std::vector<float>& row_fused, const RealInputs& inputs) {
  subject.result.same_bits_as_row_fused = subject.y.size() == row_fused.size() &&
                                          std::memcmp(subject.y.data(), row_fused.data(), row_fused.size() * sizeof(float)) == 0;
  subject.result.active_set_exact = subject.mask == inputs.exact.active;
  check_bound(subject, inputs);
}

void time_turn(Subject& subject, const RealInputs& inputs, index_t first_token, std::vector<float>& y) {
  for (index_t call = 0; call < kCallsInARow; ++call) {
    const std::span<const float> x = input(inputs, (first_token + call) % inputs.tokens);
    const auto start = Clock::now();
    const Status status = subject.ffn->run(x, y);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (!status.ok()) {
      subject.result.error = status.message();
      return;
    }
    if (call > 0) subject.seconds.push_back(seconds);
  }
}

void time_rounds(std::vector<Subject>& subjects, const RealInputs& inputs, double budget_s,
                 const std::function<void(double, const std::string&)>& progress) {
  const auto start = Clock::now();
  std::vector<float> y(static_cast<std::size_t>(inputs.weights.d_model()));
  index_t token = 0;
  for (double spent = 0; spent < budget_s; token += kCallsInARow) {
    if (progress) progress(0.2 + 0.8 * spent / budget_s, "timing the real layer");
    for (Subject& subject : subjects) {
      if (subject.alive()) time_turn(subject, inputs, token, y);
    }
    spent = std::chrono::duration<double>(Clock::now() - start).count();
  }
}

RealLayerCase finish(Subject& subject, const ValidationGroup* predicted) {
  RealLayerCase& result = subject.result;
  if (!subject.seconds.empty()) {
    std::sort(subject.seconds.begin(), subject.seconds.end());
    result.median_s = quantile(subject.seconds, 0.5);
    result.p10_s = quantile(subject.seconds, 0.1);
    result.p90_s = quantile(subject.seconds, 0.9);
  }
  if (predicted != nullptr) {
    for (std::size_t i = 0; i < predicted->plans.size(); ++i) {
      if (predicted->plans[i] == result.plan) result.prediction = predicted->predictions[i].prediction;
    }
  }
  return std::move(result);
}

}  // namespace

Result<RealInputs> load_real_inputs(const std::filesystem::path& directory, index_t tokens, int threads) {
  Result<Weights> weights = load_weights(directory / kWeightsFile);
  if (!weights.ok()) return weights.status();
  const Result<FloatMatrix> x = read_matrix(directory / kInputFile);
  if (!x.ok()) return x.status();
  if (x->columns != weights->d_model()) {
    return invalid_argument(fmt::format("{}: has {} columns, and the layer's d_model is {}", kInputFile, x->columns, weights->d_model()));
  }
  if (x->rows < 1) return invalid_argument(fmt::format("{}: has no rows", kInputFile));
  tokens = std::min(tokens, x->rows);
  std::vector<float> sample(x->values.begin(), x->values.begin() + static_cast<std::ptrdiff_t>(tokens * x->columns));
  Result<ReferenceResult> exact = reference(*weights, sample, tokens, ReferenceMode::composite, threads);
  if (!exact.ok()) return exact.status();
  const auto open = std::count(exact->active.begin(), exact->active.end(), std::uint8_t{1});
  const double active = static_cast<double>(open) / static_cast<double>(exact->active.size());
  return RealInputs{std::move(weights).value(), std::move(sample), tokens, std::move(exact).value(), active, kWeightsFile, kInputFile};
}

RealLayer run_real_layer(const RealInputs& inputs, const cpu::Options& options, double budget_s, const ValidationGroup* predicted,
                         const std::function<void(double, const std::string&)>& progress) {
  const Problem problem = inputs.weights.problem(1);
  RealLayer layer{inputs.weights_file, inputs.input_file, describe(problem), static_cast<int>(inputs.tokens), inputs.active, 0, {}};
  for (const float y : inputs.exact.y) layer.largest_output = std::max(layer.largest_output, static_cast<double>(std::fabs(y)));

  std::vector<Subject> subjects;
  for (const Plan& plan : default_plans(problem)) {
    if (progress) progress(0.0, "checking the real layer");
    subjects.push_back(open(inputs, plan, options));
    if (!subjects.back().alive()) continue;
    Plan row_fused = default_plan(problem, Strategy::row_fused);
    row_fused.parts = plan.parts;
    const Subject yardstick = open(inputs, row_fused, options);
    check(subjects.back(), yardstick.y, inputs);
  }
  time_rounds(subjects, inputs, budget_s, progress);
  for (Subject& subject : subjects) layer.cases.push_back(finish(subject, predicted));
  return layer;
}

}  // namespace signsplit::tools
