#include "tools/open_cases.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "signsplit/reference.hpp"
#include "signsplit/synthetic.hpp"

namespace signsplit::tools {
namespace {

using sim::Residency;

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::uint64_t max_ulp_distance(const std::vector<float>& a, const std::vector<float>& b) {
  std::uint64_t most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, ulp_distance(a[i], b[i]));
  return most;
}

}  // namespace

OpenCases::OpenCases(const Problem& problem, const MeasureOptions& options, const MeasureProgress& progress)
    : problem_(problem), options_(options), progress_(progress),
      own_executor_(options.executor != nullptr ? nullptr : cpu_executor({.threads = options.threads, .isa = options.isa})),
      executor_(options.executor != nullptr ? options.executor : own_executor_.get()),
      exact_executor_(cpu_executor({.threads = options.threads, .isa = options.isa, .exact_mask = true})) {}

/// Cases are opened before the layer is copied: the copies then have its certificates, which take longer to build than to copy.
Status OpenCases::open(double active, std::span<const CaseRequest> requests) {
  if (Status status = make_layer(active); !status.ok()) return status;
  for (const CaseRequest& request : requests) add(request);
  check_all();
  if (options_.residency == Residency::cold) {
    if (Status status = copy_layers(); !status.ok()) return status;
  }
  for (OpenCase& one : cases_) {
    if (!one.vendor.empty() && one.alive()) copy_vendor(one);
  }
  return {};
}

Status OpenCases::make_layer(double active) {
  report(0.0, "making the layer");
  auto first = synthetic_weights(problem_, active, options_.seed, options_.threads);
  if (!first) return first.status();
  weights_.emplace(std::move(first).value());
  x_ = synthetic_input(problem_.batch, problem_.d_model, options_.seed + 1);
  y_.resize(x_.size());
  auto loaded = executor_->load(*weights_);
  if (!loaded) return loaded.status();
  rotation_.layers.push_back(std::move(loaded).value());
  return {};
}

void OpenCases::add(const CaseRequest& request) {
  OpenCase one;
  one.vendor = request.vendor;
  one.result.plan = request.plan;
  one.result.exact_mask = request.exact_mask;
  one.result.label = label_of(request);
  one.seldom = request.seldom;
  open_on_layer(one);
  cases_.push_back(std::move(one));
}

void OpenCases::open_on_layer(OpenCase& one) {
  if (one.result.plan) {
    Executor& executor = one.result.exact_mask ? *exact_executor_ : *executor_;
    auto ffn = executor.create(*rotation_.layers.front(), *one.result.plan, problem_.batch);
    if (!ffn) return one.fail(ffn.status());
    one.ffn = std::move(ffn).value();
    return;
  }
  auto copy = executor_->make_vendor(one.vendor, *weights_, problem_.batch);
  if (!copy) return one.fail(copy.status());
  one.result.bytes = (*copy)->weight_bytes();
  one.result.detail = (*copy)->description();
  one.copies.push_back(std::move(copy).value());
}

/// Runs every case once and compares: bits with row_fused, ulps with the exact reference.
void OpenCases::check_all() {
  std::vector<float> exact;
  if (options_.check_results && options_.exact_reference) {
    report(0.1, "exact reference");
    auto result = reference(*weights_, x_, problem_.batch, sharpest_mode(problem_.activation), options_.threads);
    if (!result) {
      for (OpenCase& one : cases_) one.fail(result.status());
      return;
    }
    exact = std::move(result->y);
  }
  for (OpenCase& one : cases_) {
    if (!one.alive()) continue;
    report(0.15, "checking " + one.result.label);
    check(one, exact);
  }
}

void OpenCases::check(OpenCase& one, const std::vector<float>& exact) {
  std::fill(y_.begin(), y_.end(), std::numeric_limits<float>::quiet_NaN());
  const Status status = one.ffn ? one.ffn->run(x_, y_) : one.copies.front()->run(x_, y_);
  if (!status.ok()) return one.fail(status);
  one.first_y = y_;
  if (one.ffn) {
    one.result.statistics = one.ffn->statistics();
    one.result.bytes = signsplit::weight_bytes(one.result.statistics);
  }
  if (!options_.check_results) return;
  if (!exact.empty()) one.result.max_ulp = max_ulp_distance(one.first_y, exact);
  auto expected = row_fused_output(one.result.plan ? one.result.plan->parts : 0);
  if (!expected) return one.fail(expected.status());
  one.result.same_bits_as_row_fused = same_bits(one.first_y, *expected);
}

/// What row_fused (of w8a8, which it does not run, unfused) with these parts gives on the layer, on the CPU, whatever is
/// measured. parts 0: those of the default plan.
Result<std::vector<float>> OpenCases::row_fused_output(index_t parts) {
  if (const auto known = row_fused_.find(parts); known != row_fused_.end()) return known->second;
  Plan plan = default_plan(problem_, problem_.arithmetic == Arithmetic::w8a8 ? Strategy::unfused : Strategy::row_fused);
  if (parts > 0) plan.parts = parts;
  auto ffn = cpu::Ffn::create(*weights_, plan, problem_.batch, {.threads = options_.threads, .isa = options_.isa});
  if (!ffn) return ffn.status();
  std::vector<float> y(y_.size(), std::numeric_limits<float>::quiet_NaN());
  if (Status status = ffn->run(x_, y); !status.ok()) return status;
  return row_fused_.emplace(parts, std::move(y)).first->second;
}

Status OpenCases::copy_layers() {
  const double wanted = std::max(2.0, std::ceil(rotation_bytes() / layer_bytes()));
  const double possible = 1.0 + std::floor(executor_->memory_left_bytes() / layer_bytes());
  if (possible < 2.0) return io_error("not enough free memory for two layers to rotate through; try --residency warm");
  const auto count = static_cast<std::size_t>(std::min(wanted, possible));
  while (rotation_.layers.size() < count) {
    report(0.2 + 0.1 * static_cast<double>(rotation_.layers.size()) / static_cast<double>(count), "copying layers");
    auto copy = executor_->duplicate(*rotation_.layers.front());
    if (!copy) return copy.status();
    rotation_.layers.push_back(std::move(copy).value());
  }
  return {};
}

void OpenCases::copy_vendor(OpenCase& one) {
  double others = 0;  // bytes that the other cases read between two turns of this one, at least
  for (const OpenCase& other : cases_) {
    if (other.ffn && other.alive()) others += layer_bytes() / static_cast<double>(matrix_count(problem_));
  }
  const auto own = static_cast<double>(one.result.bytes);
  const std::size_t needed = executor_->vendor_copies(options_.residency, rotation_bytes(), own, others);
  while (one.copies.size() < needed) {
    report(0.3, "packing for " + one.vendor);
    if (executor_->memory_left_bytes() < own) {
      return one.fail(io_error("not enough free memory for " + std::to_string(needed) + " copies of the layer"));
    }
    auto copy = executor_->make_vendor(one.vendor, *weights_, problem_.batch);
    if (!copy) return one.fail(copy.status());
    one.copies.push_back(std::move(copy).value());
  }
}

Result<double> OpenCases::timed_turn(OpenCase& one) {
  std::fill(y_.begin(), y_.end(), std::numeric_limits<float>::quiet_NaN());
  Result<double> seconds = 0.0;
  if (one.ffn) {
    seconds = one.ffn->timed_turn(rotation_, options_.residency, x_, y_);
  } else {
    for (int call = 0; call < executor_->calls_per_turn(options_.residency) && seconds.ok(); ++call) {
      seconds = one.copies[one.next_copy++ % one.copies.size()]->timed_run(x_, y_);
    }
  }
  if (seconds.ok()) check_again(one);
  return seconds;
}

/// Layers are copies of each other: ours must give the same bits every time. A vendor promises less; of it we ask only
/// that it wrote every output.
void OpenCases::check_again(OpenCase& one) {
  const auto poisoned = [&] {
    for (std::size_t i = 0; i < y_.size(); ++i) {
      if (std::isnan(y_[i]) && !std::isnan(one.first_y[i])) return true;
    }
    return false;
  };
  if (one.ffn ? !same_bits(y_, one.first_y) : poisoned()) {
    one.result.error = "a timed call gave another result than the first call";
  }
}

}  // namespace signsplit::tools
