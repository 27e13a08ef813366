// SPDX-License-Identifier: Apache-2.0
//
// Status and StatusOr<T>: how every fallible function of the engine reports failure. The engine throws no
// exceptions; adapters translate a Status once, at their border (cc/ops/tf_status.h, cc/pybind/py_status.h).
#ifndef DAMO_BASE_STATUS_H_
#define DAMO_BASE_STATUS_H_

#include <cassert>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

namespace damo {

enum class StatusCode {
  kOk,
  kInvalidArgument,     // the caller's argument breaks a rule
  kNotFound,            // a thing asked for by name does not exist
  kFailedPrecondition,  // right call, wrong state: closed store, read-only store, forked process
  kDataLoss,            // bytes on disk are not what was written
  kIoError,             // the device or the filesystem refused
  kInternal,            // a bug of ours
};

// The lower-case words that begin Status::ToString(), e.g. "invalid argument".
std::string_view StatusCodeName(StatusCode code);

// The outcome of an operation: OK, or a code with a message that names action, object, and actual against
// expected. Cheap to copy when OK. Thread-compatible.
class [[nodiscard]] Status {
 public:
  Status() = default;  // OK
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  std::string ToString() const;

  // The same failure with `context` and ": " put before its message; OK stays OK.
  Status WithContext(std::string_view context) const;

  // Drops a failure on purpose; the call site says why.
  void IgnoreError() const {}

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

// Concatenates anything that streams, for messages.
template <typename... Parts>
std::string StrCat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <typename... Parts>
Status InvalidArgument(const Parts&... parts) {
  return Status(StatusCode::kInvalidArgument, StrCat(parts...));
}
template <typename... Parts>
Status NotFound(const Parts&... parts) {
  return Status(StatusCode::kNotFound, StrCat(parts...));
}
template <typename... Parts>
Status FailedPrecondition(const Parts&... parts) {
  return Status(StatusCode::kFailedPrecondition, StrCat(parts...));
}
template <typename... Parts>
Status DataLoss(const Parts&... parts) {
  return Status(StatusCode::kDataLoss, StrCat(parts...));
}
template <typename... Parts>
Status IoError(const Parts&... parts) {
  return Status(StatusCode::kIoError, StrCat(parts...));
}
template <typename... Parts>
Status Internal(const Parts&... parts) {
  return Status(StatusCode::kInternal, StrCat(parts...));
}

// A T, or the Status that says why there is none. `*result` and `result->` require ok().
template <typename T>
class [[nodiscard]] StatusOr {
 public:
  // Both implicit by design.
  StatusOr(Status status) : status_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    assert(!status_.ok());
  }
  StatusOr(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return status_.ok(); }
  const Status& status() const { return status_; }

  T& operator*() {
    assert(ok());
    return *value_;
  }
  const T& operator*() const {
    assert(ok());
    return *value_;
  }
  T* operator->() { return &**this; }
  const T* operator->() const { return &**this; }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace damo

#define DAMO_STATUS_CONCAT_INNER(a, b) a##b
#define DAMO_STATUS_CONCAT(a, b) DAMO_STATUS_CONCAT_INNER(a, b)

// Returns from the enclosing function when `expr`, a Status, is not OK.
#define DAMO_RETURN_IF_ERROR(expr)               \
  do {                                           \
    ::damo::Status damo_status_ = (expr);        \
    if (!damo_status_.ok()) return damo_status_; \
  } while (false)

// Evaluates `expr`, a StatusOr; returns its Status on failure, else moves its value into `lhs`.
#define DAMO_ASSIGN_OR_RETURN(lhs, expr) \
  DAMO_ASSIGN_OR_RETURN_IMPL(DAMO_STATUS_CONCAT(damo_result_, __LINE__), lhs, expr)
#define DAMO_ASSIGN_OR_RETURN_IMPL(result, lhs, expr) \
  auto result = (expr);                               \
  if (!result.ok()) return result.status();           \
  lhs = std::move(*result)

#endif  // DAMO_BASE_STATUS_H_
