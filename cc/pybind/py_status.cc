// SPDX-License-Identifier: Apache-2.0
#include "pybind/py_status.h"

namespace damo::python {
namespace {

PyObject* ExceptionType(StatusCode code) {
  switch (code) {
    case StatusCode::kInvalidArgument:
      return PyExc_ValueError;
    case StatusCode::kNotFound:
      return PyExc_KeyError;
    case StatusCode::kIoError:
      return PyExc_OSError;
    default:
      return PyExc_RuntimeError;
  }
}

}  // namespace

void ThrowIfError(const Status& status) {
  if (status.ok()) return;
  // A bad argument's message speaks for itself; the others say first what kind of trouble it is.
  const bool bare = status.code() == StatusCode::kInvalidArgument || status.code() == StatusCode::kNotFound;
  PyErr_SetString(ExceptionType(status.code()), (bare ? status.message() : status.ToString()).c_str());
  throw pybind11::error_already_set();
}

void ThrowIfPathError(const Status& status) {
  if (status.code() != StatusCode::kNotFound) return ThrowIfError(status);
  PyErr_SetString(PyExc_FileNotFoundError, status.message().c_str());
  throw pybind11::error_already_set();
}

}  // namespace damo::python
