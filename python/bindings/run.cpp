// Running a layer, and letting the simulator choose the plan.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>

#include "arrays.hpp"
#include "bind.hpp"
#include "errors.hpp"
#include "layer.hpp"
#include "signsplit/auto.hpp"

namespace signsplit::python {
namespace {

namespace nb = nanobind;

/// What the loop over the calls of one run produces.
struct Outcome {
  std::vector<float> y;              // [N, D]
  std::vector<std::uint8_t> active;  // [N, F], or empty
  Statistics statistics;
  std::string isa;
  int threads = 0;
};

Result<cpu::Options> options_of(int threads, const std::optional<std::string>& isa) {
  if (threads < 0) return invalid_argument("threads must be 0 (all) or more (got " + std::to_string(threads) + ")");
  cpu::Options options{.threads = threads, .isa = {}};
  if (!isa) return options;
  options.isa = cpu::parse_isa(*isa);
  if (!options.isa) return invalid_argument("isa \"" + *isa + "\" is unknown: known are scalar, avx2, avx512");
  return options;
}

/// Tokens [first, first + count) of `values`, which has `width` elements per token; empty stays empty.
template <class T>
std::span<T> tokens(std::span<T> values, index_t width, index_t first, index_t count) {
  if (values.empty()) return {};
  return values.subspan(static_cast<std::size_t>(first * width), static_cast<std::size_t>(count * width));
}

/// Status of one call on tokens [first, first + count).
Status run_call(Layer& layer, const Plan& plan, const cpu::Options& options, std::span<const float> x, index_t first,
                index_t count, Outcome& outcome) {
  const index_t d = layer.weights().d_model(), f = layer.weights().d_ff();
  Result<Layer::Executor> executor = layer.acquire(plan, count, options);
  if (!executor) return executor.status();
  const Status status = executor->ffn.run(tokens(x, d, first, count), tokens(std::span(outcome.y), d, first, count),
                                          tokens(std::span(outcome.active), f, first, count));
  const cpu::Report& report = executor->ffn.report();
  outcome.statistics += report.statistics;
  outcome.isa = cpu::to_string(report.isa);
  outcome.threads = report.threads;
  layer.give_back(std::move(*executor));
  return status;
}

Status run_all(Layer& layer, const Plan& plan, const cpu::Options& options, std::span<const float> x, index_t batch,
               bool with_mask, Outcome& outcome) {
  const index_t d = layer.weights().d_model(), n = static_cast<index_t>(x.size()) / d;
  outcome.y.resize(x.size());
  if (with_mask) outcome.active.resize(static_cast<std::size_t>(n * layer.weights().d_ff()));
  for (index_t first = 0; first < n; first += batch) {
    const Status status = run_call(layer, plan, options, x, first, std::min(batch, n - first), outcome);
    if (!status) return status;
  }
  return {};
}

nb::dict statistics_dict(const Outcome& outcome) {
  nb::dict dict;
  for (const Counter& counter : kCounters) dict[counter.name] = outcome.statistics.*counter.field;
  dict["isa"] = outcome.isa;
  dict["threads"] = outcome.threads;
  return dict;
}

void check_width(const Layer& layer, const Tokens& x) {
  if (static_cast<index_t>(x.shape(1)) == layer.weights().d_model() && x.shape(0) > 0) return;
  raise_unless_ok(invalid_argument("x has shape [" + std::to_string(x.shape(0)) + ", " + std::to_string(x.shape(1)) +
                                   "], expected [N, " + std::to_string(layer.weights().d_model()) + "] with N at least 1"));
}

/// (y [N, D], active [N, F] or None, statistics)
nb::tuple run(Layer& layer, const Tokens& x, const std::string& plan_text, index_t batch, int threads,
              const std::optional<std::string>& isa, bool with_mask, bool exact_mask) {
  check_width(layer, x);
  if (batch < 1) raise_unless_ok(invalid_argument("batch must be at least 1 (got " + std::to_string(batch) + ")"));
  const Plan plan = value_or_raise(plan_from_json(plan_text));
  cpu::Options options = value_or_raise(options_of(threads, isa));
  options.exact_mask = exact_mask;
  Outcome outcome;
  const Status status = [&] {
    const nb::gil_scoped_release released;
    return run_all(layer, plan, options, values_of(x), batch, with_mask, outcome);
  }();
  raise_unless_ok(status);
  const auto n = x.shape(0), d = x.shape(1), f = static_cast<std::size_t>(layer.weights().d_ff());
  nb::object mask = nb::none();
  if (with_mask) mask = nb::cast(owned_array(std::move(outcome.active), {n, f}));
  return nb::make_tuple(owned_array(std::move(outcome.y), {n, d}), mask, statistics_dict(outcome));
}

/// What `auto` is, as JSON: the plan of the planner for this machine and calls of tokens like x.
std::string plan_by_planner(const Layer& layer, const Tokens& x, const std::string& mode, int threads, const std::optional<std::string>& isa) {
  check_width(layer, x);
  AutoOptions options{.cpu = value_or_raise(options_of(threads, isa))};
  const std::optional<sim::PlanMode> parsed = sim::parse_plan_mode(mode);
  if (!parsed) raise_unless_ok(invalid_argument("planner \"" + mode + "\" is unknown: known are estimate, measure"));
  options.mode = *parsed;
  Result<sim::ChosenPlan> chosen = [&] {
    const nb::gil_scoped_release released;
    return choose_plan(layer.weights(), values_of(x), static_cast<index_t>(x.shape(0)), options);
  }();
  return to_json(value_or_raise(std::move(chosen)).plan);
}

std::vector<std::string> isa_names() {
  std::vector<std::string> names;
  for (const cpu::Isa isa : cpu::supported_isas()) names.emplace_back(cpu::to_string(isa));
  return names;
}

}  // namespace

void bind_run(nb::module_& module) {
  module.def("run", &run, nb::arg("layer"), nb::arg("x").noconvert(), nb::arg("plan"), nb::arg("batch"),
             nb::arg("threads"), nb::arg("isa").none(), nb::arg("mask"), nb::arg("exact_mask"));
  module.def("choose_plan", &plan_by_planner, nb::arg("layer"), nb::arg("x").noconvert(), nb::arg("mode"), nb::arg("threads"),
             nb::arg("isa").none());
  module.def("supported_isas", &isa_names);
}

}  // namespace signsplit::python
