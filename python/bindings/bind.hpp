// The parts of the extension module, one source file each.
#pragma once

#include <nanobind/nanobind.h>

namespace signsplit::python {

void bind_layer(nanobind::module_& module);
void bind_plan(nanobind::module_& module);
void bind_run(nanobind::module_& module);
void bind_reference(nanobind::module_& module);
void bind_golden(nanobind::module_& module);
void bind_predict(nanobind::module_& module);
void bind_files(nanobind::module_& module);

}  // namespace signsplit::python
