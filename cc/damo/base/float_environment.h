// SPDX-License-Identifier: Apache-2.0
//
// The engine's arithmetic is plain IEEE 754: gradual underflow, rounding to nearest. TensorFlow's threads
// flush subnormals to zero, so the same update would give other bits there than in the damo module; whoever
// borrows threads for arithmetic opens one of these first (contract C5).
#ifndef DAMO_BASE_FLOAT_ENVIRONMENT_H_
#define DAMO_BASE_FLOAT_ENVIRONMENT_H_

#if defined(__x86_64__)
#include <xmmintrin.h>
#else
#include <cfenv>
#endif

namespace damo {

// Sets the calling thread to the default floating-point environment, and back when it goes out of scope.
class ScopedFloatEnvironment {
 public:
#if defined(__x86_64__)
  // All arithmetic of floats and doubles is that of the vector units, whose control word costs a few
  // nanoseconds. std::fesetenv() sets that of the x87, too, and takes longer than a row's initial values.
  ScopedFloatEnvironment() : saved_(_mm_getcsr()) { _mm_setcsr(kDefault); }
  ~ScopedFloatEnvironment() { _mm_setcsr(saved_); }
#else
  ScopedFloatEnvironment() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~ScopedFloatEnvironment() { std::fesetenv(&saved_); }
#endif

  ScopedFloatEnvironment(const ScopedFloatEnvironment&) = delete;
  ScopedFloatEnvironment& operator=(const ScopedFloatEnvironment&) = delete;

 private:
#if defined(__x86_64__)
  // Rounds to nearest, subnormals stay, nothing traps.
  static constexpr unsigned int kDefault = _MM_MASK_MASK;
  const unsigned int saved_;
#else
  std::fenv_t saved_;
#endif
};

}  // namespace damo

#endif  // DAMO_BASE_FLOAT_ENVIRONMENT_H_
