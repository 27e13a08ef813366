// SPDX-License-Identifier: Apache-2.0
//
// GilRelease: lets other Python threads run during a call of the engine.
#ifndef DAMO_PYBIND_GIL_RELEASE_H_
#define DAMO_PYBIND_GIL_RELEASE_H_

#include <Python.h>
#include <cxxabi.h>
#include <unistd.h>

namespace damo::python {

// Gives up the GIL, which the calling thread holds, and takes it back when it goes out of scope.
//
// Unlike pybind11's, it may go out of scope in a daemon thread while the interpreter shuts down. Python
// (before 3.14) answers such a thread's request for the GIL with pthread_exit, whose unwinding ends the
// process when it meets a destructor. Here the thread is held up instead, and goes with the process.
class GilRelease {
 public:
  GilRelease() : state_(PyEval_SaveThread()) {}
  ~GilRelease() {
    try {
      PyEval_RestoreThread(state_);
    } catch (const abi::__forced_unwind&) {
      for (;;) pause();
    }
  }
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
  PyThreadState* const state_;
};

}  // namespace damo::python

#endif  // DAMO_PYBIND_GIL_RELEASE_H_
