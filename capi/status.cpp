// Versions, and what went wrong.
#include <algorithm>
#include <array>
#include <cstring>

#include "guard.hpp"

static_assert(SIGNSPLIT_VERSION_MAJOR == SIGNSPLIT_PROJECT_MAJOR && SIGNSPLIT_VERSION_MINOR == SIGNSPLIT_PROJECT_MINOR &&
                  SIGNSPLIT_VERSION_PATCH == SIGNSPLIT_PROJECT_PATCH,
              "the version in signsplit.h is not the project's");

namespace signsplit::capi {
namespace {

// Fixed room: noting that memory has run out must not need any.
thread_local std::array<char, 2048> last_error{};

signsplit_status code_of(StatusCode code) noexcept {
  switch (code) {
    case StatusCode::ok: return SIGNSPLIT_OK;
    case StatusCode::invalid_argument: return SIGNSPLIT_INVALID_ARGUMENT;
    case StatusCode::unsupported: return SIGNSPLIT_UNSUPPORTED;
    case StatusCode::not_found: return SIGNSPLIT_NOT_FOUND;
    case StatusCode::corrupt_file: return SIGNSPLIT_CORRUPT_FILE;
    case StatusCode::io_error: return SIGNSPLIT_IO_ERROR;
  }
  return SIGNSPLIT_INTERNAL_ERROR;
}

}  // namespace

signsplit_status fail(signsplit_status code, std::string_view message) noexcept {
  const std::size_t length = std::min(message.size(), last_error.size() - 1);
  std::memcpy(last_error.data(), message.data(), length);
  last_error[length] = '\0';
  return code;
}

signsplit_status answer(const Status& status) noexcept {
  return status.ok() ? SIGNSPLIT_OK : fail(code_of(status.code()), status.message());
}

}  // namespace signsplit::capi

extern "C" {

const char* signsplit_version(void) { return SIGNSPLIT_PROJECT_VERSION; }

const char* signsplit_status_name(signsplit_status status) {
  switch (status) {
    case SIGNSPLIT_OK: return "ok";
    case SIGNSPLIT_INVALID_ARGUMENT: return "invalid_argument";
    case SIGNSPLIT_UNSUPPORTED: return "unsupported";
    case SIGNSPLIT_NOT_FOUND: return "not_found";
    case SIGNSPLIT_CORRUPT_FILE: return "corrupt_file";
    case SIGNSPLIT_IO_ERROR: return "io_error";
    case SIGNSPLIT_OUT_OF_MEMORY: return "out_of_memory";
    case SIGNSPLIT_INTERNAL_ERROR: return "internal_error";
    case SIGNSPLIT_STATUS_FORCE_INT: break;
  }
  return "unknown";
}

const char* signsplit_last_error(void) { return signsplit::capi::last_error.data(); }

}  // extern "C"
