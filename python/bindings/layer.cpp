// _native.Layer: packing, reading, writing, properties.
#include "layer.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "arrays.hpp"
#include "bind.hpp"
#include "errors.hpp"

namespace signsplit::python {

Result<Layer::Executor> Layer::acquire(const Plan& plan, index_t batch, cpu::Options options) {
  const Result<cpu::Isa> isa = cpu::select_isa(options.isa);
  if (!isa) return isa.status();
  options.isa = *isa;
  {
    const std::scoped_lock lock(mutex_);
    if (idle_ && idle_->ffn.plan() == plan && idle_->ffn.problem().batch == batch && idle_->options.isa == options.isa &&
        idle_->options.threads == options.threads && idle_->options.exact_mask == options.exact_mask) {
      Executor taken = std::move(*idle_);
      idle_.reset();
      return taken;
    }
  }
  Result<cpu::Ffn> created = cpu::Ffn::create(weights_, plan, batch, options);
  if (!created) return created.status();
  return Executor{options, std::move(*created)};
}

void Layer::give_back(Executor&& executor) {
  const std::scoped_lock lock(mutex_);
  idle_.reset();
  idle_.emplace(std::move(executor));
}

namespace {

namespace nb = nanobind;

using Matrix = nb::ndarray<nb::ro, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

std::span<const std::byte> bytes_of(const std::optional<Matrix>& matrix) {
  if (!matrix) return {};
  return {static_cast<const std::byte*>(matrix->data()), matrix->nbytes()};
}

std::span<const float> bias_of(const std::optional<Floats>& bias) {
  return bias ? values_of(*bias) : std::span<const float>();
}

Result<ParsedActivation> parse(const std::string& name, bool gated) {
  const std::optional<ParsedActivation> parsed = parse_activation(name);
  if (!parsed) {
    return invalid_argument("activation \"" + name + "\" is unknown: known are " + kActivationNames);
  }
  if (parsed->must_be_gated && !gated) return invalid_argument("activation " + name + " needs a gate");
  return *parsed;
}

/// dtype is that of the elements: bf16 and f16 come as uint16.
Layer* pack(const std::string& dtype_name, const Matrix& up, const Matrix& down, const std::optional<Matrix>& gate,
            const std::optional<Floats>& up_bias, const std::optional<Floats>& gate_bias,
            const std::optional<Floats>& down_bias, const std::string& activation) {
  const std::optional<DType> dtype = parse_dtype(dtype_name);
  if (!dtype || *dtype == DType::int8) raise_unless_ok(invalid_argument("dtype \"" + dtype_name + "\" is unknown: known are f32, bf16, f16"));
  LayerTensors layer;
  layer.d_ff = static_cast<index_t>(up.shape(0));
  layer.d_model = static_cast<index_t>(up.shape(1));
  layer.dtype = *dtype;
  layer.activation = value_or_raise(parse(activation, gate.has_value())).activation;
  layer.up = bytes_of(up);
  layer.down = bytes_of(down);
  layer.gate = bytes_of(gate);
  layer.up_bias = bias_of(up_bias);
  layer.gate_bias = bias_of(gate_bias);
  layer.down_bias = bias_of(down_bias);
  auto packed = [&] {
    const nb::gil_scoped_release released;
    return Weights::pack(layer);
  }();
  return new Layer(value_or_raise(std::move(packed)));
}

Layer* load(const std::filesystem::path& file, const std::optional<std::string>& activation) {
  std::optional<ParsedActivation> parsed;
  if (activation) parsed = value_or_raise(parse(*activation, /*gated=*/true));  // the file says whether there is a gate
  auto loaded = [&] {
    const nb::gil_scoped_release released;
    return load_weights(file, parsed);
  }();
  return new Layer(value_or_raise(std::move(loaded)));
}

Layer* quantize(const Layer& layer, index_t group) {
  auto rounded = [&] {
    const nb::gil_scoped_release released;
    return layer.weights().quantize(group);
  }();
  return new Layer(value_or_raise(std::move(rounded)));
}

void save(const Layer& layer, const std::filesystem::path& file) {
  const Status status = [&] {
    const nb::gil_scoped_release released;
    return save_weights(file, layer.weights());
  }();
  raise_unless_ok(status);
}

}  // namespace

void bind_layer(nb::module_& module) {
  nb::class_<Layer>(module, "Layer", "One FFN layer, packed. Immutable; any number of threads may use it at once.")
      .def_static("pack", &pack, nb::arg("dtype"), nb::arg("up").noconvert(), nb::arg("down").noconvert(),
                  nb::arg("gate").noconvert().none(), nb::arg("up_bias").noconvert().none(),
                  nb::arg("gate_bias").noconvert().none(), nb::arg("down_bias").noconvert().none(), nb::arg("activation"),
                  nb::rv_policy::take_ownership)
      .def_static("load", &load, nb::arg("file"), nb::arg("activation").none(), nb::rv_policy::take_ownership)
      .def("save", &save, nb::arg("file"))
      .def("quantize", &quantize, nb::arg("group"), nb::rv_policy::take_ownership)
      .def_prop_ro("d_model", [](const Layer& l) { return l.weights().d_model(); })
      .def_prop_ro("d_ff", [](const Layer& l) { return l.weights().d_ff(); })
      .def_prop_ro("dtype", [](const Layer& l) { return std::string(to_string(l.weights().dtype())); })
      .def_prop_ro("gated", [](const Layer& l) { return l.weights().gated(); })
      .def_prop_ro("activation",
                   [](const Layer& l) { return to_string(l.weights().activation(), l.weights().gated()); })
      .def("__repr__", [](const Layer& l) { return "<signsplit layer " + describe(l.weights().problem()) + ">"; });
}

}  // namespace signsplit::python
