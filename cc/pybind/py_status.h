// SPDX-License-Identifier: Apache-2.0
//
// From Status to Python exceptions, the only place where the damo module does it.
#ifndef DAMO_PYBIND_PY_STATUS_H_
#define DAMO_PYBIND_PY_STATUS_H_

#include <pybind11/pybind11.h>

#include <utility>

#include "damo/base/status.h"

namespace damo::python {

// Raises for a failure: ValueError for a bad argument, KeyError for something absent, OSError for trouble
// with the device, RuntimeError for the rest (closed store, data loss, our bugs). Needs the GIL.
void ThrowIfError(const Status& status);

// The same for calls about files and directories: what is absent is a FileNotFoundError.
void ThrowIfPathError(const Status& status);

template <typename T>
T ValueOrThrow(StatusOr<T> result) {
  ThrowIfError(result.status());
  return std::move(*result);
}

}  // namespace damo::python

#endif  // DAMO_PYBIND_PY_STATUS_H_
