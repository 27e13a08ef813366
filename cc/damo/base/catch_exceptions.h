// SPDX-License-Identifier: Apache-2.0
//
// CatchExceptions: the wall between code that may throw (the standard library, out of memory) and threads in
// which an exception would end the process: TensorFlow's kernels and thread pools.
#ifndef DAMO_BASE_CATCH_EXCEPTIONS_H_
#define DAMO_BASE_CATCH_EXCEPTIONS_H_

#include <exception>

#include "damo/base/status.h"

namespace damo {

// Runs `function`, which returns a Status; an exception that escapes it becomes an Internal error. Throws
// nothing itself.
template <typename Function>
Status CatchExceptions(Function&& function) noexcept {
  try {
    try {
      return function();
    } catch (const std::exception& error) {
      return Internal("exception in the engine: ", error.what());
    } catch (...) {
      return Internal("exception of unknown type in the engine");
    }
  } catch (...) {
    return Status(StatusCode::kInternal, "out of memory");  // so short that it takes none
  }
}

}  // namespace damo

#endif  // DAMO_BASE_CATCH_EXCEPTIONS_H_
