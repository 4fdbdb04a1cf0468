// The border between C++ and C: statuses become codes and messages, exceptions stop here.
#pragma once

#include <exception>
#include <new>
#include <string_view>
#include <utility>

#include "signsplit/signsplit.h"
#include "signsplit/status.hpp"

namespace signsplit::capi {

/// Notes the message of the calling thread's last error (cut to what fits) and returns the code.
signsplit_status fail(signsplit_status code, std::string_view message) noexcept;
/// The same for a status of ours; SIGNSPLIT_OK, and nothing noted, when it is ok.
signsplit_status answer(const Status& status) noexcept;

/// invalid_argument when a pointer that the call needs is null.
[[nodiscard]] inline Status require(const void* pointer, const char* name) {
  return pointer != nullptr ? Status{} : invalid_argument(std::string(name) + " is NULL");
}

/// Runs the body of a C function: a callable that returns Status.
template <class Body>
signsplit_status guarded(Body&& body) noexcept {
  try {
    return answer(std::forward<Body>(body)());
  } catch (const std::bad_alloc&) {
    return fail(SIGNSPLIT_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return fail(SIGNSPLIT_INTERNAL_ERROR, error.what());
  } catch (...) {
    return fail(SIGNSPLIT_INTERNAL_ERROR, "an exception of unknown type");
  }
}

}  // namespace signsplit::capi
