// signsplit_reference, error bounds, and checks of somebody's output.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "guard.hpp"
#include "handles.hpp"
#include "plan_text.hpp"
#include "signsplit/golden.hpp"

namespace signsplit::capi {
namespace {

Result<std::span<const float>> tokens(const float* x, std::size_t x_count, const Problem& problem) {
  if (Status status = validate(problem); !status) return status;
  if (Status status = require(x, "x"); !status) return status;
  if (const index_t expected = problem.batch * problem.d_model; x_count != static_cast<std::size_t>(expected)) {
    return invalid_argument("x has " + std::to_string(x_count) + " elements, expected " + std::to_string(expected));
  }
  return std::span(x, x_count);
}

Status check_bound_count(std::size_t bound_count, std::size_t x_count) {
  if (bound_count == x_count) return {};
  return invalid_argument("bound has " + std::to_string(bound_count) + " elements, expected " + std::to_string(x_count));
}

/// What rounding the exact value can have moved it, 2^-24 of its binade.
double half_ulp(float exact) {
  if (exact == 0.0f) return 0x1p-150;
  return std::ldexp(1.0, std::max(std::ilogb(exact), -126) - 24);
}

/// How far an element is off, as a fraction of what is allowed: above 1 it is wrong.
double bound_fraction(float actual, float exact, double bound) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (std::isnan(exact)) return std::isnan(actual) ? 0.0 : kInfinity;
  if (bound == kInfinity || actual == exact) return 0.0;
  if (!std::isfinite(actual) || !std::isfinite(exact)) return kInfinity;
  const double allowed = (bound + half_ulp(exact)) * (1.0 + 0x1p-50);  // for the roundings of this very comparison
  return std::abs(static_cast<double>(actual) - static_cast<double>(exact)) / allowed;
}

signsplit_check_result compare(std::span<const float> actual, std::span<const float> exact, const double* bound) {
  signsplit_check_result result{};
  result.first_wrong = actual.size();
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const std::uint64_t ulps = ulp_distance(actual[i], exact[i]);
    const double fraction = bound != nullptr ? bound_fraction(actual[i], exact[i], bound[i]) : 0.0;
    if (bound != nullptr ? fraction > result.worst_bound_fraction : ulps > result.max_ulp) result.worst = i;
    result.max_ulp = std::max(result.max_ulp, ulps);
    result.worst_bound_fraction = std::max(result.worst_bound_fraction, fraction);
    if (ulps == 0) ++result.equal;
    const bool right = bound != nullptr ? fraction <= 1.0 : ulps == 0;
    if (right) continue;
    if (result.wrong++ == 0) result.first_wrong = i;
  }
  result.passed = result.wrong == 0 ? 1 : 0;
  return result;
}

Status check_bounds(const double* bound, std::size_t count) {
  for (std::size_t i = 0; bound != nullptr && i < count; ++i) {
    if (!(bound[i] >= 0.0)) return invalid_argument("bound[" + std::to_string(i) + "] must not be negative or NaN");
  }
  return {};
}

}  // namespace
}  // namespace signsplit::capi

using namespace signsplit;
using namespace signsplit::capi;

extern "C" {

signsplit_status signsplit_reference_create(const signsplit_weights* weights, signsplit_reference_mode mode, int64_t batch,
                                            const float* x, size_t x_count, int threads, signsplit_reference** out) {
  return guarded([&]() -> Status {
    if (Status status = require(out, "reference"); !status) return status;
    *out = nullptr;
    if (Status status = require(weights, "weights"); !status) return status;
    if (mode != SIGNSPLIT_STAGED && mode != SIGNSPLIT_COMPOSITE) {
      return invalid_argument("mode must be SIGNSPLIT_STAGED or SIGNSPLIT_COMPOSITE (got " + std::to_string(mode) + ")");
    }
    if (threads < 0) return invalid_argument("threads must be 0 (all) or more (got " + std::to_string(threads) + ")");
    const auto in = tokens(x, x_count, weights->layer->problem(batch));
    if (!in) return in.status();
    Result<ReferenceResult> result = reference(
        *weights->layer, *in, batch, mode == SIGNSPLIT_STAGED ? ReferenceMode::staged : ReferenceMode::composite, threads);
    if (!result) return result.status();
    *out = new signsplit_reference{std::move(*result)};
    return {};
  });
}

void signsplit_reference_destroy(signsplit_reference* reference) { delete reference; }

const float* signsplit_reference_y(const signsplit_reference* reference) {
  return reference != nullptr ? reference->result.y.data() : nullptr;
}
const float* signsplit_reference_z(const signsplit_reference* reference) {
  return reference != nullptr ? reference->result.z.data() : nullptr;
}
const float* signsplit_reference_h(const signsplit_reference* reference) {
  return reference != nullptr ? reference->result.h.data() : nullptr;
}
const uint8_t* signsplit_reference_active(const signsplit_reference* reference) {
  return reference != nullptr ? reference->result.active.data() : nullptr;
}

signsplit_status signsplit_error_bound(const signsplit_weights* weights, const char* plan, int64_t batch, const float* x,
                                       size_t x_count, double* bound, size_t bound_count) {
  return guarded([&]() -> Status {
    if (Status status = require(weights, "weights"); !status) return status;
    if (Status status = require(bound, "bound"); !status) return status;
    const Problem problem = weights->layer->problem(batch);
    const auto in = tokens(x, x_count, problem);
    if (!in) return in.status();
    if (Status status = check_bound_count(bound_count, x_count); !status) return status;
    const Result<Plan> parsed = parse_plan(plan, problem);
    if (!parsed) return parsed.status();
    const Result<std::vector<double>> bounds = error_bound(*parsed, *weights->layer, *in, batch);
    if (!bounds) return bounds.status();
    std::copy(bounds->begin(), bounds->end(), bound);
    return {};
  });
}

signsplit_status signsplit_kernel_bound(const signsplit_weights* weights, const char* accumulation, int64_t batch,
                                        const float* x, size_t x_count, double* bound, size_t bound_count) {
  return guarded([&]() -> Status {
    if (Status status = require(weights, "weights"); !status) return status;
    if (Status status = require(accumulation, "accumulation"); !status) return status;
    if (Status status = require(bound, "bound"); !status) return status;
    const auto in = tokens(x, x_count, weights->layer->problem(batch));
    if (!in) return in.status();
    if (Status status = check_bound_count(bound_count, x_count); !status) return status;
    const auto parsed = parse_accumulation(accumulation);
    if (!parsed) {
      return invalid_argument("accumulation \"" + std::string(accumulation) +
                              "\" is unknown: known are f32, f64, bf16-activations");
    }
    Result<Weights> copy = weights->layer->clone();
    if (!copy) return copy.status();
    const Result<Golden> golden =
        make_golden({std::move(*copy), std::vector<float>(in->begin(), in->end()), batch}, {}, *parsed);
    if (!golden) return golden.status();
    std::copy(golden->y_bound.begin(), golden->y_bound.end(), bound);
    return {};
  });
}

signsplit_status signsplit_check(const float* actual, const float* exact, const double* bound, size_t count,
                                 signsplit_check_result* result, size_t struct_size) {
  return guarded([&]() -> Status {
    if (Status status = require(result, "result"); !status) return status;
    if (Status status = require(actual, "actual"); !status) return status;
    if (Status status = require(exact, "exact"); !status) return status;
    if (count == 0) return invalid_argument("count must not be 0: a check of nothing would pass");
    if (Status status = check_bounds(bound, count); !status) return status;
    const signsplit_check_result all = compare({actual, count}, {exact, count}, bound);
    std::memset(result, 0, struct_size);
    std::memcpy(result, &all, std::min(struct_size, sizeof all));
    return {};
  });
}

}  // extern "C"
