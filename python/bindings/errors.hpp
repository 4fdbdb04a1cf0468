// How the library's statuses become Python exceptions.
#pragma once

#include <utility>

#include "signsplit/status.hpp"

namespace signsplit::python {

/// Returns when `status` is ok; else raises, with the status's one line as the message:
///   invalid_argument, corrupt_file  ValueError
///   unsupported                     NotImplementedError
///   not_found                       FileNotFoundError for a file, LookupError for a name or a tensor
///   io_error                        OSError
/// The caller holds the GIL.
void raise_unless_ok(const Status& status);

/// The value of a result, or the exception of its status.
template <class T>
T value_or_raise(Result<T>&& result) {
  raise_unless_ok(result.status());
  return std::move(*result);
}

}  // namespace signsplit::python
