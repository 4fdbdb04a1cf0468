#include <bit>
#include <cmath>
#include <exception>
#include <limits>

#include "approximate.hpp"
#include "kernel_faults.hpp"
#include "signsplit/golden.hpp"
#include "signsplit/reference.hpp"

namespace signsplit {
namespace {

/// How one element compares.
enum class Verdict : std::uint8_t { inside, outside, nan_mismatch, inf_mismatch };

/// Which tokens have finite inputs and weights, so that an ∞ or a NaN in them can come from an overflow only.
std::vector<bool> finite_tokens(const GoldenInput& in) {
  const Weights& w = in.weights;
  bool weights_finite = true;
  for (index_t j = 0; j < w.d_ff(); ++j) {
    weights_finite = weights_finite && !w.input_row_nonfinite(j) && !w.down_row_nonfinite(j);
  }
  for (const float b : w.down_bias()) weights_finite = weights_finite && std::isfinite(b);
  std::vector<bool> finite(static_cast<std::size_t>(in.batch), weights_finite);
  const auto d = static_cast<std::size_t>(w.d_model());
  for (std::size_t i = 0; i < in.x.size(); ++i) {
    if (!std::isfinite(in.x[i])) finite[i / d] = false;
  }
  return finite;
}

class Comparison {
 public:
  Comparison(const Golden& golden, std::span<const float> y, const CheckOptions& options)
      : golden_(golden), y_(y), options_(options), finite_(finite_tokens(golden.input)), wrong_(y.size()) {}

  CheckReport run() {
    report_.elements = static_cast<index_t>(y_.size());
    for (std::size_t i = 0; i < y_.size(); ++i) compare(i);
    report_.within_bound = report_.outside == 0;
    report_.passed = report_.within_bound && report_.nan_mismatches == 0 && report_.inf_mismatches == 0;
    if (report_.passed) return std::move(report_);
    report_.where = describe_places();
    if (options_.hint) report_.hint = find_cause(golden_, y_, wrong_, report_.worst_index, options_);
    return std::move(report_);
  }

 private:
  void compare(std::size_t i) {
    const std::uint64_t ulps = ulp_distance(y_[i], golden_.y[i]);
    report_.max_ulp = std::max(report_.max_ulp, ulps);
    report_.max_ulp_staged = std::max(report_.max_ulp_staged, ulp_distance(y_[i], golden_.y_staged[i]));
    report_.exact += ulps == 0 ? 1 : 0;
    ++report_.distribution[std::min(static_cast<std::size_t>(std::bit_width(ulps)), kUlpBuckets - 1)];
    double ratio = 0.0;
    const Verdict verdict = judge(i, ratio);
    report_.outside += verdict == Verdict::outside ? 1 : 0;
    report_.nan_mismatches += verdict == Verdict::nan_mismatch ? 1 : 0;
    report_.inf_mismatches += verdict == Verdict::inf_mismatch ? 1 : 0;
    if (verdict != Verdict::inside) {
      wrong_[i] = 1;
      ratio = std::max(ratio, 1.0);
    }
    if (ratio > report_.worst_ratio) {
      report_.worst_ratio = ratio;
      report_.worst_index = static_cast<index_t>(i);
    }
  }

  Verdict judge(std::size_t i, double& ratio) {
    const float got = y_[i], expected = golden_.y[i];
    const bool may_overflow = finite_[i / static_cast<std::size_t>(golden_.input.weights.d_model())];
    const double allowed = allowed_error(golden_, i, options_.output_dtype);
    if (std::isinf(allowed) && may_overflow) {
      ++report_.unbounded;
      return Verdict::inside;
    }
    ratio = std::numeric_limits<double>::infinity();
    if (std::isnan(got) != std::isnan(expected)) return Verdict::nan_mismatch;
    if ((std::isinf(got) || std::isinf(expected)) && got != expected) return Verdict::inf_mismatch;
    ratio = 0.0;
    if (!std::isfinite(expected)) return Verdict::inside;
    const double error = std::abs(static_cast<double>(got) - static_cast<double>(expected));
    if (error == 0.0 || std::isinf(allowed)) return Verdict::inside;
    ratio = error / allowed;  // +∞ where nothing is allowed
    return error <= allowed ? Verdict::inside : Verdict::outside;
  }

  /// "all 480 elements", "token 2 only", "columns 95 to 95 only", "every 16th column from 3 on only", ...
  [[nodiscard]] std::string describe_places() const {
    const auto d = static_cast<std::size_t>(golden_.input.weights.d_model()), tokens = y_.size() / d;
    std::vector<std::uint8_t> column(d), token(tokens);
    std::size_t count = 0;
    for (std::size_t i = 0; i < wrong_.size(); ++i) {
      if (wrong_[i] == 0) continue;
      ++count;
      column[i % d] = token[i / d] = 1;
    }
    const std::string of_all = std::to_string(count) + " of " + std::to_string(y_.size()) + " elements";
    if (count == y_.size()) return "all " + of_all.substr(of_all.find("of ") + 3);
    std::string places = axis("token", token);
    const std::string columns = axis("column", column);
    if (!columns.empty()) places += (places.empty() ? "" : ", ") + columns;
    return of_all + (places.empty() ? ", all over" : ": " + places);
  }

  /// Empty when the marks are everywhere.
  static std::string axis(const std::string& name, const std::vector<std::uint8_t>& marked) {
    std::vector<std::size_t> at;
    for (std::size_t i = 0; i < marked.size(); ++i) {
      if (marked[i] != 0) at.push_back(i);
    }
    if (at.size() == marked.size()) return {};
    if (at.size() == 1) return name + " " + std::to_string(at[0]) + " only";
    const std::size_t step = at[1] - at[0];
    bool even = true;
    for (std::size_t i = 1; i < at.size(); ++i) even = even && at[i] - at[i - 1] == step;
    const std::string range = std::to_string(at.front()) + " to " + std::to_string(at.back());
    if (even && step == 1) return name + "s " + range + " only";
    if (even && at.size() > 2) return name + "s " + range + " in steps of " + std::to_string(step) + " only";
    return std::to_string(at.size()) + " of " + std::to_string(marked.size()) + " " + name + "s, between " + range;
  }

  const Golden& golden_;
  std::span<const float> y_;
  CheckOptions options_;
  std::vector<bool> finite_;
  std::vector<std::uint8_t> wrong_;
  CheckReport report_;
};

}  // namespace

double allowed_error(const Golden& golden, std::size_t i, DType output) {
  const auto bound = static_cast<double>(golden.y_bound[i]);
  if (output == DType::f32) return bound;
  return bound + 0x1p-8 * (std::abs(static_cast<double>(golden.y[i])) + bound) + 0x1p-134;
}

Result<CheckReport> check(const Golden& golden, std::span<const float> y, const CheckOptions& options) try {
  if (y.size() != golden.y.size()) {
    return invalid_argument("the output must have batch * d_model = " + std::to_string(golden.y.size()) +
                            " elements (got " + std::to_string(y.size()) + ")");
  }
  return Comparison(golden, y, options).run();
} catch (const std::exception&) {
  return io_error("not enough memory for the check");
}

}  // namespace signsplit
