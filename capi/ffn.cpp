// signsplit_ffn: runs.
#include <algorithm>
#include <bit>
#include <cstring>

#include "guard.hpp"
#include "handles.hpp"
#include "plan_text.hpp"

namespace signsplit::capi {

Result<cpu::Options> executor_options(int threads, const char* isa) {
  cpu::Options options;
  options.threads = threads;
  if (isa == nullptr) return options;
  options.isa = cpu::parse_isa(isa);
  if (!options.isa) return invalid_argument("isa \"" + std::string(isa) + "\" is unknown: known are scalar, avx2, avx512");
  return options;
}

namespace {

Status create(const signsplit_weights& weights, std::int64_t batch, const char* plan_text, const cpu::Options& options,
              signsplit_ffn** out) {
  const Problem problem = weights.layer->problem(batch);
  if (Status status = validate(problem); !status) return status;
  const Result<Plan> plan = parse_plan(plan_text, problem);
  if (!plan) return plan.status();
  Result<cpu::Ffn> ffn = cpu::Ffn::create(*weights.layer, *plan, batch, options);
  if (!ffn) return ffn.status();
  std::string isa(cpu::to_string(ffn->report().isa));
  *out = new signsplit_ffn{weights.layer, std::move(*ffn), to_json(*plan), label(*plan), std::move(isa)};
  return {};
}

/// An array of C as a span; invalid_argument when it is null and not empty.
template <class T>
Result<std::span<T>> span_of(T* data, std::size_t count, const char* name) {
  if (count == 0) return std::span<T>();
  if (Status status = require(data, name); !status) return status;
  return std::span<T>(data, count);
}

signsplit_statistics to_c(const Statistics& s) {
  static_assert(sizeof(signsplit_statistics) == sizeof(Statistics), "the same counters in the same order (tested)");
  return std::bit_cast<signsplit_statistics>(s);
}

}  // namespace
}  // namespace signsplit::capi

using namespace signsplit;
using namespace signsplit::capi;

extern "C" {

signsplit_status signsplit_ffn_create(const signsplit_weights* weights, int64_t batch, const char* plan, int threads,
                                      const char* isa, signsplit_ffn** ffn) {
  return guarded([&]() -> Status {
    if (Status status = require(ffn, "ffn"); !status) return status;
    *ffn = nullptr;
    if (Status status = require(weights, "weights"); !status) return status;
    const Result<cpu::Options> options = executor_options(threads, isa);
    return options ? create(*weights, batch, plan, *options, ffn) : options.status();
  });
}

void signsplit_ffn_destroy(signsplit_ffn* ffn) { delete ffn; }

signsplit_status signsplit_ffn_run(signsplit_ffn* ffn, const float* x, size_t x_count, float* y, size_t y_count,
                                   uint8_t* active, size_t active_count) {
  return guarded([&]() -> Status {
    if (Status status = require(ffn, "ffn"); !status) return status;
    const auto in = span_of(x, x_count, "x");
    if (!in) return in.status();
    const auto out = span_of(y, y_count, "y");
    if (!out) return out.status();
    const auto mask = span_of(active, active_count, "active");
    if (!mask) return mask.status();
    if (active != nullptr && active_count == 0) return invalid_argument("active is given, and active_count is 0");
    return ffn->ffn.run(*in, *out, *mask);
  });
}

signsplit_status signsplit_ffn_rebind(signsplit_ffn* ffn, const signsplit_weights* weights) {
  return guarded([&]() -> Status {
    if (Status status = require(ffn, "ffn"); !status) return status;
    if (Status status = require(weights, "weights"); !status) return status;
    if (Status status = ffn->ffn.rebind(*weights->layer); !status) return status;
    ffn->layer = weights->layer;
    return {};
  });
}

const char* signsplit_ffn_plan(const signsplit_ffn* ffn) { return ffn != nullptr ? ffn->plan.c_str() : ""; }
const char* signsplit_ffn_label(const signsplit_ffn* ffn) { return ffn != nullptr ? ffn->label.c_str() : ""; }
const char* signsplit_ffn_isa(const signsplit_ffn* ffn) { return ffn != nullptr ? ffn->isa.c_str() : ""; }
int signsplit_ffn_threads(const signsplit_ffn* ffn) { return ffn != nullptr ? ffn->ffn.report().threads : 0; }

signsplit_status signsplit_ffn_statistics(const signsplit_ffn* ffn, signsplit_statistics* statistics, size_t struct_size) {
  return guarded([&]() -> Status {
    if (Status status = require(ffn, "ffn"); !status) return status;
    if (Status status = require(statistics, "statistics"); !status) return status;
    const signsplit_statistics all = to_c(ffn->ffn.report().statistics);
    std::memset(statistics, 0, struct_size);
    std::memcpy(statistics, &all, std::min(struct_size, sizeof all));
    return {};
  });
}

}  // extern "C"
