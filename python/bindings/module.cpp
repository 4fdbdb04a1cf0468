// signsplit._native: the extension module under the Python package, which adds names, defaults and conversions.
#include "bind.hpp"

#include "signsplit/signsplit.h"

NB_MODULE(_native, module) {
  using namespace signsplit::python;
  module.doc() = "The compiled part of signsplit. Use the names of the package instead.";
  module.def("version", &signsplit_version);
  bind_layer(module);
  bind_plan(module);
  bind_run(module);
  bind_reference(module);
  bind_golden(module);
  bind_predict(module);
  bind_files(module);
}
