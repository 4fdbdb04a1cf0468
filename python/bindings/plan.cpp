// Plans, as JSON text: default, checked, named.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "bind.hpp"
#include "errors.hpp"
#include "signsplit/plan.hpp"

namespace signsplit::python {
namespace {

namespace nb = nanobind;

Result<Problem> problem_of(index_t d_model, index_t d_ff, const std::string& activation, bool gated) {
  const std::optional<ParsedActivation> parsed = parse_activation(activation);
  if (!parsed) return invalid_argument("activation \"" + activation + "\" is unknown");
  const Problem problem{.d_model = d_model, .d_ff = d_ff, .activation = parsed->activation,
                        .gated = gated || parsed->must_be_gated};
  const Status status = validate(problem);
  if (!status) return status;
  return problem;
}

/// The variant and the repair of sign_split, with the defaults that a problem asks for.
Result<Plan> sign_split_plan(const Problem& problem, const std::optional<std::string>& variant_name,
                             const std::optional<std::string>& repair_name, bool skip) {
  Variant variant = problem.gated ? Variant::telescoping : Variant::interim;
  if (variant_name) {
    const std::optional<Variant> parsed = parse_variant(*variant_name);
    if (!parsed || *parsed == Variant::none) {
      return invalid_argument("variant \"" + *variant_name + "\" is unknown: known are interim, streams, telescoping, ignore");
    }
    variant = *parsed;
  }
  Repair repair = variant == Variant::interim || variant == Variant::streams ? Repair::selective : Repair::none;
  if (repair_name) {
    const std::optional<Repair> parsed = parse_repair(*repair_name);
    if (!parsed) return invalid_argument("repair \"" + *repair_name + "\" is unknown: known are selective, full, redo, none");
    repair = *parsed;
  }
  return default_sign_split_plan(problem, variant, repair, skip);
}

Result<Plan> choose(const Problem& problem, const std::string& strategy_name, const std::optional<std::string>& variant,
                    const std::optional<std::string>& repair, bool skip) {
  const std::optional<Strategy> strategy = parse_strategy(strategy_name);
  if (!strategy) {
    return invalid_argument("strategy \"" + strategy_name + "\" is unknown: known are unfused, row_fused, sign_split, certified");
  }
  if (*strategy == Strategy::sign_split) return sign_split_plan(problem, variant, repair, skip);
  if (variant || repair) return invalid_argument("variant and repair go with strategy sign_split only");
  return default_plan(problem, *strategy, skip);
}

std::string default_plan_json(index_t d_model, index_t d_ff, const std::string& activation, bool gated,
                              const std::string& strategy, const std::optional<std::string>& variant,
                              const std::optional<std::string>& repair, bool skip, index_t batch) {
  Problem problem = value_or_raise(problem_of(d_model, d_ff, activation, gated));
  problem.batch = batch;
  const Plan plan = value_or_raise(choose(problem, strategy, variant, repair, skip));
  raise_unless_ok(validate(plan, problem));
  return to_json(plan);
}

void validate_json(const std::string& plan, index_t d_model, index_t d_ff, const std::string& activation, bool gated) {
  const Problem problem = value_or_raise(problem_of(d_model, d_ff, activation, gated));
  raise_unless_ok(validate(value_or_raise(plan_from_json(plan)), problem));
}

}  // namespace

void bind_plan(nb::module_& module) {
  module.def("default_plan", &default_plan_json, nb::arg("d_model"), nb::arg("d_ff"), nb::arg("activation"),
             nb::arg("gated"), nb::arg("strategy"), nb::arg("variant").none(), nb::arg("repair").none(), nb::arg("skip"),
             nb::arg("batch"));
  module.def("validate_plan", &validate_json, nb::arg("plan"), nb::arg("d_model"), nb::arg("d_ff"), nb::arg("activation"),
             nb::arg("gated"));
  module.def("complete_plan", [](const std::string& text) { return to_json(value_or_raise(plan_from_json(text))); },
             nb::arg("plan"));
  module.def("plan_label", [](const std::string& text) { return label(value_or_raise(plan_from_json(text))); },
             nb::arg("plan"));
}

}  // namespace signsplit::python
