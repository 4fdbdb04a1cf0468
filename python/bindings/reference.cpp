// The exact reference, error bounds, distances in ulps.
#include "signsplit/reference.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "arrays.hpp"
#include "bind.hpp"
#include "errors.hpp"
#include "layer.hpp"

namespace signsplit::python {
namespace {

namespace nb = nanobind;

/// (y [N, D], z [N, F], h [N, F], active [N, F])
nb::tuple exact(const Layer& layer, const Tokens& x, bool staged, int threads) {
  if (threads < 0) raise_unless_ok(invalid_argument("threads must be 0 (all) or more (got " + std::to_string(threads) + ")"));
  auto result = [&] {
    const nb::gil_scoped_release released;
    return reference(layer.weights(), values_of(x), static_cast<index_t>(x.shape(0)),
                     staged ? ReferenceMode::staged : ReferenceMode::composite, threads);
  }();
  ReferenceResult values = value_or_raise(std::move(result));
  const auto n = x.shape(0), d = x.shape(1), f = static_cast<std::size_t>(layer.weights().d_ff());
  return nb::make_tuple(owned_array(std::move(values.y), {n, d}), owned_array(std::move(values.z), {n, f}),
                        owned_array(std::move(values.h), {n, f}), owned_array(std::move(values.active), {n, f}));
}

/// [N, D]
nb::ndarray<nb::numpy, double> bound(const Layer& layer, const Tokens& x, const std::string& plan_text) {
  const Plan plan = value_or_raise(plan_from_json(plan_text));
  auto bounds = [&] {
    const nb::gil_scoped_release released;
    return error_bound(plan, layer.weights(), values_of(x), static_cast<index_t>(x.shape(0)));
  }();
  return owned_array(value_or_raise(std::move(bounds)), {x.shape(0), x.shape(1)});
}

nb::ndarray<nb::numpy, std::uint64_t> distances(const Floats& a, const Floats& b) {
  if (a.size() != b.size()) {
    raise_unless_ok(invalid_argument("a has " + std::to_string(a.size()) + " elements and b " + std::to_string(b.size())));
  }
  std::vector<std::uint64_t> ulps(a.size());
  for (std::size_t i = 0; i < ulps.size(); ++i) ulps[i] = ulp_distance(a.data()[i], b.data()[i]);
  const std::size_t count = ulps.size();
  return owned_array(std::move(ulps), {count});
}

}  // namespace

void bind_reference(nb::module_& module) {
  module.def("reference", &exact, nb::arg("layer"), nb::arg("x").noconvert(), nb::arg("staged"), nb::arg("threads"));
  module.def("error_bound", &bound, nb::arg("layer"), nb::arg("x").noconvert(), nb::arg("plan"));
  module.def("ulp_distance", &distances, nb::arg("a").noconvert(), nb::arg("b").noconvert());
}

}  // namespace signsplit::python
