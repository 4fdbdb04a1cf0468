// Status and Result: how every fallible function of the library answers.
//
// The library never prints, never aborts and never lets an exception of its own out of a public function; it answers
// with a Status whose message is one line that names what was wrong (file, tensor, field) and the rule it broke.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace signsplit {

enum class StatusCode : std::uint8_t {
  ok,
  invalid_argument,  ///< A value given by the caller breaks a documented rule.
  unsupported,       ///< The request is well-formed, but this build or this machine cannot do it.
  not_found,         ///< A file, a name or a tensor that was asked for does not exist.
  corrupt_file,      ///< A file exists, and its content breaks its format.
  io_error,          ///< The operating system refused to read or to write.
};

/// The outcome of an operation: ok, or a code with a one-line message.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  [[nodiscard]] bool ok() const noexcept { return code_ == StatusCode::ok; }
  explicit operator bool() const noexcept { return ok(); }
  [[nodiscard]] StatusCode code() const noexcept { return code_; }
  [[nodiscard]] const std::string& message() const noexcept { return message_; }

 private:
  StatusCode code_ = StatusCode::ok;
  std::string message_;
};

[[nodiscard]] inline Status invalid_argument(std::string message) {
  return {StatusCode::invalid_argument, std::move(message)};
}
[[nodiscard]] inline Status unsupported(std::string message) { return {StatusCode::unsupported, std::move(message)}; }
[[nodiscard]] inline Status not_found(std::string message) { return {StatusCode::not_found, std::move(message)}; }
[[nodiscard]] inline Status corrupt_file(std::string message) { return {StatusCode::corrupt_file, std::move(message)}; }
[[nodiscard]] inline Status io_error(std::string message) { return {StatusCode::io_error, std::move(message)}; }

/// A value of type T, or the Status that says why there is none. (std::expected is C++23.)
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}               // NOLINT: implicit by design
  Result(Status status) : state_(std::in_place_index<1>, std::move(status)) {}        // NOLINT: implicit by design

  [[nodiscard]] bool ok() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }

  /// The value. Precondition: ok().
  [[nodiscard]] T& value() & { return *std::get_if<0>(&state_); }
  [[nodiscard]] const T& value() const& { return *std::get_if<0>(&state_); }
  [[nodiscard]] T&& value() && { return std::move(*std::get_if<0>(&state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  /// The status: ok when there is a value.
  [[nodiscard]] Status status() const { return ok() ? Status{} : *std::get_if<1>(&state_); }
  [[nodiscard]] const std::string& message() const {
    static const std::string none;
    return ok() ? none : std::get_if<1>(&state_)->message();
  }

 private:
  std::variant<T, Status> state_;
};

}  // namespace signsplit
