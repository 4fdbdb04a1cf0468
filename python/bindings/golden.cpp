// Golden data, and checks against it.
#include "signsplit/golden.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/string.h>

#include "arrays.hpp"
#include "bind.hpp"
#include "errors.hpp"
#include "layer.hpp"

namespace signsplit::python {
namespace {

namespace nb = nanobind;

using FloatArray = nb::ndarray<nb::numpy, float>;

Golden* read(const std::filesystem::path& path) {
  auto golden = [&] {
    const nb::gil_scoped_release released;
    return read_golden(path);
  }();
  return new Golden(value_or_raise(std::move(golden)));
}

Result<Golden> compute(const Layer& layer, const Tokens& x, Accumulation accumulation, int threads) {
  Result<Weights> copy = layer.weights().clone();
  if (!copy) return copy.status();
  const std::span<const float> values = values_of(x);
  GoldenInput input{std::move(*copy), {values.begin(), values.end()}, static_cast<index_t>(x.shape(0))};
  return make_golden(std::move(input), {}, accumulation, threads);
}

Golden* make(const Layer& layer, const Tokens& x, const std::string& accumulation_name, int threads) {
  const std::optional<Accumulation> accumulation = parse_accumulation(accumulation_name);
  if (!accumulation) {
    raise_unless_ok(invalid_argument("accumulation \"" + accumulation_name + "\" is unknown: known are f32, f64, bf16-activations"));
  }
  auto golden = [&] {
    const nb::gil_scoped_release released;
    return compute(layer, x, *accumulation, threads);
  }();
  return new Golden(value_or_raise(std::move(golden)));
}

nb::list write(const Golden& golden, const std::filesystem::path& path) {
  auto written = [&] {
    const nb::gil_scoped_release released;
    return write_golden(path, golden);
  }();
  nb::list files;
  for (const auto& file : value_or_raise(std::move(written))) files.append(nb::cast(file));
  return files;
}

nb::dict report_dict(const CheckReport& report) {
  nb::list distribution;
  for (const std::uint64_t count : report.distribution) distribution.append(count);
  nb::dict dict;
  dict["passed"] = report.passed;
  dict["within_bound"] = report.within_bound;
  dict["max_ulp"] = report.max_ulp;
  dict["worst_index"] = report.worst_index;
  dict["worst_ratio"] = report.worst_ratio;
  dict["elements"] = report.elements;
  dict["exact"] = report.exact;
  dict["outside"] = report.outside;
  dict["nan_mismatches"] = report.nan_mismatches;
  dict["inf_mismatches"] = report.inf_mismatches;
  dict["unbounded"] = report.unbounded;
  dict["distribution"] = nb::tuple(distribution);
  dict["where"] = report.where;
  dict["cause"] = std::string(to_string(report.hint.cause));
  dict["hint"] = report.hint.text;
  return dict;
}

nb::dict compare(const Golden& golden, const Floats& y, bool bf16_output, bool hint, int threads) {
  auto report = [&] {
    const nb::gil_scoped_release released;
    return check(golden, values_of(y), {bf16_output ? DType::bf16 : DType::f32, hint, threads});
  }();
  return report_dict(value_or_raise(std::move(report)));
}

/// A copy of a [B, D] or [B, F] array.
template <auto Member>
FloatArray copy_rows(const Golden& golden) {
  std::vector<float> values = golden.*Member;
  const auto rows = static_cast<std::size_t>(golden.input.batch), columns = values.size() / rows;
  return owned_array(std::move(values), {rows, columns});
}

FloatArray copy_x(const Golden& golden) {
  std::vector<float> values = golden.input.x;
  const auto rows = static_cast<std::size_t>(golden.input.batch), columns = values.size() / rows;
  return owned_array(std::move(values), {rows, columns});
}

Layer* layer_of(const Golden& golden) { return new Layer(value_or_raise(golden.input.weights.clone())); }

}  // namespace

void bind_golden(nb::module_& module) {
  nb::class_<Golden>(module, "Golden")
      .def_static("read", &read, nb::arg("path"), nb::rv_policy::take_ownership)
      .def_static("make", &make, nb::arg("layer"), nb::arg("x").noconvert(), nb::arg("accumulation"), nb::arg("threads"),
                  nb::rv_policy::take_ownership)
      .def("write", &write, nb::arg("path"))
      .def("check", &compare, nb::arg("y").noconvert(), nb::arg("bf16_output"), nb::arg("hint"), nb::arg("threads"))
      .def("layer", &layer_of, nb::rv_policy::take_ownership)
      .def("x", &copy_x)
      .def("y", &copy_rows<&Golden::y>)
      .def("y_staged", &copy_rows<&Golden::y_staged>)
      .def("y_bound", &copy_rows<&Golden::y_bound>)
      .def("z", &copy_rows<&Golden::z>)
      .def("h", &copy_rows<&Golden::h>)
      .def_prop_ro("accumulation", [](const Golden& g) { return std::string(to_string(g.accumulation)); });
}

}  // namespace signsplit::python
