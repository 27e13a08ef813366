// SPDX-License-Identifier: Apache-2.0
//
// PyProgress: a Python function that is told how far a call of the engine has come, from within that call,
// which runs without the GIL.
#ifndef DAMO_PYBIND_PY_PROGRESS_H_
#define DAMO_PYBIND_PY_PROGRESS_H_

#include <pybind11/pybind11.h>

#include <exception>
#include <string>

#include "damo/base/status.h"

namespace damo::python {

// Made, asked for its exception and destroyed with the GIL held.
class [[gnu::visibility("hidden")]] PyProgress {  // as what it holds is
 public:
  // `function` may be None. It is borrowed. Throws TypeError if it cannot be called: the engine would come to
  // that when part of the work is done.
  explicit PyProgress(const pybind11::object& function) : function_(function) {
    if (function.is_none() || PyCallable_Check(function.ptr()) != 0) return;
    throw pybind11::type_error("`progress` must be callable or None. Received: progress=" +
                               std::string(pybind11::repr(function)));
  }

  // Calls the function. A failure if it raises, or if a signal's handler does, as Ctrl-C's. Without the GIL.
  template <typename... Arguments>
  Status Report(Arguments... arguments) {
    const pybind11::gil_scoped_acquire gil;
    try {
      if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
      if (!function_.is_none()) function_(arguments...);
      return Status();
    } catch (const pybind11::error_already_set&) {
      exception_ = std::current_exception();
      return FailedPrecondition("an exception was raised in Python");
    }
  }

  // Raises again what was raised; it says more than the failure that came of it.
  void Rethrow() const {
    if (exception_ != nullptr) std::rethrow_exception(exception_);
  }

 private:
  const pybind11::object& function_;
  std::exception_ptr exception_;
};

}  // namespace damo::python

#endif  // DAMO_PYBIND_PY_PROGRESS_H_
