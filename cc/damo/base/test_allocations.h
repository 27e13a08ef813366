// SPDX-License-Identifier: Apache-2.0
//
// FailingAllocation: memory that runs out on demand. A test repeats something, each time with one allocation
// later failing, until it went through without.
#ifndef DAMO_BASE_TEST_ALLOCATIONS_H_
#define DAMO_BASE_TEST_ALLOCATIONS_H_

#include <cstdint>

namespace damo {

// Whether allocations can be made to fail at all: not under ThreadSanitizer.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kAllocationsCanFail = false;
#else
inline constexpr bool kAllocationsCanFail = true;
#endif

// While it stands, allocation number `n`, from 0, that this thread makes by operator new throws
// std::bad_alloc; those before and after it do not. One at a time in each thread.
class FailingAllocation {
 public:
  explicit FailingAllocation(int64_t n);
  ~FailingAllocation();
  FailingAllocation(const FailingAllocation&) = delete;
  FailingAllocation& operator=(const FailingAllocation&) = delete;

  // Whether it has come to that.
  bool failed() const;
};

// While it stands no allocation of this thread fails, and none is counted.
class SparedAllocations {
 public:
  SparedAllocations();
  ~SparedAllocations();
  SparedAllocations(const SparedAllocations&) = delete;
  SparedAllocations& operator=(const SparedAllocations&) = delete;

 private:
  const int64_t left_;
};

}  // namespace damo

#endif  // DAMO_BASE_TEST_ALLOCATIONS_H_
