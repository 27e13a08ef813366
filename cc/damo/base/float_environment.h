// SPDX-License-Identifier: Apache-2.0
//
// The engine's arithmetic is plain IEEE 754: gradual underflow, rounding to nearest. TensorFlow's threads
// flush subnormals to zero, so the same update would give other bits there than in the damo module; whoever
// borrows threads for arithmetic opens one of these first (contract C5).
#ifndef DAMO_BASE_FLOAT_ENVIRONMENT_H_
#define DAMO_BASE_FLOAT_ENVIRONMENT_H_

#include <cfenv>

namespace damo {

// Sets the calling thread to the default floating-point environment, and back when it goes out of scope.
// Costs some tens of nanoseconds: one for a block of rows, not one for each row.
class ScopedFloatEnvironment {
 public:
  ScopedFloatEnvironment() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~ScopedFloatEnvironment() { std::fesetenv(&saved_); }

  ScopedFloatEnvironment(const ScopedFloatEnvironment&) = delete;
  ScopedFloatEnvironment& operator=(const ScopedFloatEnvironment&) = delete;

 private:
  std::fenv_t saved_;
};

}  // namespace damo

#endif  // DAMO_BASE_FLOAT_ENVIRONMENT_H_
