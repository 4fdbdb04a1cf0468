// Predictions, through the C interface: question and answer are JSON.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <memory>
#include <new>

#include "bind.hpp"
#include "errors.hpp"
#include "signsplit/models.hpp"
#include "signsplit/signsplit.h"
#include "signsplit/sim/machine.hpp"

namespace signsplit::python {
namespace {

namespace nb = nanobind;

Status status_of(signsplit_status status) {
  switch (status) {
    case SIGNSPLIT_OK: return {};
    case SIGNSPLIT_UNSUPPORTED: return unsupported(signsplit_last_error());
    case SIGNSPLIT_NOT_FOUND: return not_found(signsplit_last_error());
    case SIGNSPLIT_CORRUPT_FILE: return corrupt_file(signsplit_last_error());
    case SIGNSPLIT_IO_ERROR: return io_error(signsplit_last_error());
    case SIGNSPLIT_OUT_OF_MEMORY: throw std::bad_alloc();
    default: return invalid_argument(signsplit_last_error());
  }
}

std::string predict(const std::string& request) {
  char* answer = nullptr;
  const Status status = [&] {
    const nb::gil_scoped_release released;
    return status_of(signsplit_predict(request.c_str(), &answer));
  }();
  raise_unless_ok(status);
  const std::unique_ptr<char, void (*)(char*)> owner(answer, &signsplit_string_destroy);
  return answer;
}

/// {"d_model", "d_ff", "activation", "gated", "reported_zeros"}
nb::dict find(const std::string& name) {
  const std::optional<Model> model = find_model(name);
  if (!model) raise_unless_ok(not_found("model \"" + name + "\" is unknown; signsplit.models() lists the known ones"));
  nb::dict dict;
  dict["d_model"] = model->d_model;
  dict["d_ff"] = model->d_ff;
  dict["activation"] = to_string(model->activation, model->gated);
  dict["gated"] = model->gated;
  dict["reported_zeros"] = model->reported_zeros;
  return dict;
}

/// Whether a unit of this activation can be closed; true for a name that is none.
bool can_close_units(const std::string& activation) {
  const std::optional<ParsedActivation> parsed = parse_activation(activation);
  return !parsed || closes_units(parsed->activation);
}

nb::list model_names() {
  nb::list names;
  for (const Model& model : models()) names.append(std::string(model.name));
  return names;
}

nb::list hardware_names() {
  nb::list names;
  for (const std::string& name : sim::machine_names()) names.append(name);
  return names;
}

}  // namespace

void bind_predict(nb::module_& module) {
  module.def("predict", &predict, nb::arg("request"));
  module.def("find_model", &find, nb::arg("name"));
  module.def("closes_units", &can_close_units, nb::arg("activation"));
  module.def("models", &model_names);
  module.def("hardware", &hardware_names);
}

}  // namespace signsplit::python
