#include "errors.hpp"

#include <nanobind/nanobind.h>

#include <string_view>

namespace signsplit::python {
namespace {

PyObject* exception_of(const Status& status) {
  switch (status.code()) {
    case StatusCode::unsupported: return PyExc_NotImplementedError;
    case StatusCode::io_error: return PyExc_OSError;
    case StatusCode::not_found:
      return std::string_view(status.message()).ends_with(": no such file") ? PyExc_FileNotFoundError : PyExc_LookupError;
    case StatusCode::ok:
    case StatusCode::invalid_argument:
    case StatusCode::corrupt_file: break;
  }
  return PyExc_ValueError;
}

}  // namespace

void raise_unless_ok(const Status& status) {
  if (status.ok()) return;
  // File names may hold any bytes: those that are not UTF-8 come out as U+FFFD.
  const std::string& text = status.message();
  PyObject* const message = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
  if (message != nullptr) {
    PyErr_SetObject(exception_of(status), message);
    Py_DECREF(message);
  }
  throw nanobind::python_error();
}

}  // namespace signsplit::python
