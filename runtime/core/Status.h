// Status and Result<T>: how every function of the runtime reports failure.
//
// No exception crosses a boundary. A message names the file, tensor, op or rank, what was found,
// what was expected and what to do; the code decides the exit code of a command.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <utility>

namespace switchyard {

/// The exit code of a command is the code's value.
enum class StatusCode : int {
  Ok = 0,
  Failed = 1,       // failed while running
  Usage = 2,        // wrong flags
  InvalidInput = 3, // a file or a value in it is not what it must be
  DoesNotFit = 4,   // the plan needs more memory than there is
  RankFailed = 5,   // another rank failed
};

class [[nodiscard]] Status {
public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status failed(std::string message) { return {StatusCode::Failed, std::move(message)}; }
  static Status usage(std::string message) { return {StatusCode::Usage, std::move(message)}; }
  static Status invalidInput(std::string message) {
    return {StatusCode::InvalidInput, std::move(message)};
  }
  static Status doesNotFit(std::string message) {
    return {StatusCode::DoesNotFit, std::move(message)};
  }

  bool ok() const { return code_ == StatusCode::Ok; }
  StatusCode code() const { return code_; }
  const std::string &message() const { return message_; }

  /// The same failure with `where` and ": " in front of its message.
  Status within(const std::string &where) const {
    return ok() ? *this : Status(code_, where + ": " + message_);
  }

private:
  StatusCode code_ = StatusCode::Ok;
  std::string message_;
};

/// A value, or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
public:
  Result(T value) : value_(std::move(value)) {}
  Result(Status status) : status_(std::move(status)) { assert(!status_.ok()); }

  bool ok() const { return value_.has_value(); }
  const Status &status() const { return status_; }
  T &value() {
    assert(ok());
    return *value_;
  }
  const T &value() const {
    assert(ok());
    return *value_;
  }
  T &operator*() { return value(); }
  const T &operator*() const { return value(); }
  T *operator->() { return &value(); }
  const T *operator->() const { return &value(); }

private:
  std::optional<T> value_;
  Status status_;
};

} // namespace switchyard

#define SY_CONCAT_INNER(a, b) a##b
#define SY_CONCAT(a, b) SY_CONCAT_INNER(a, b)

/// Returns from the enclosing function if `expression` (a Status) is a failure.
#define SY_RETURN_IF_ERROR(expression)                                                             \
  do {                                                                                             \
    if (::switchyard::Status syStatus = (expression); !syStatus.ok())                              \
      return syStatus;                                                                             \
  } while (false)

/// Declares `declaration` from the value of `expression` (a Result), or returns its Status.
#define SY_ASSIGN_OR_RETURN(declaration, expression)                                               \
  auto SY_CONCAT(syResult, __LINE__) = (expression);                                               \
  if (!SY_CONCAT(syResult, __LINE__).ok())                                                         \
    return SY_CONCAT(syResult, __LINE__).status();                                                 \
  declaration = std::move(*SY_CONCAT(syResult, __LINE__))
