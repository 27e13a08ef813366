// SPDX-License-Identifier: Apache-2.0
//
// The tests of what happens without memory prove something only while allocations can be made to fail: that
// they can, everywhere they are said to, is proven here.
#include "damo/base/test_allocations.h"

#include <gtest/gtest.h>

#include <future>
#include <new>
#include <thread>
#include <vector>

#include "damo/base/status.h"

namespace damo {
namespace {

class FailingAllocationTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!kAllocationsCanFail) GTEST_SKIP() << "no allocation fails under ThreadSanitizer";
  }
};

// Whether the n-th allocation fails, of three that are made here; the vectors are in use, so that the
// compiler leaves none of them out.
bool FailsAt(int64_t n, bool* failed) {
  const FailingAllocation one(n);
  std::vector<int> vectors[3];
  bool thrown = false;
  try {
    for (std::vector<int>& vector : vectors) {
      vector.reserve(100);
      *static_cast<volatile int*>(vector.data()) = 1;
    }
  } catch (const std::bad_alloc&) {
    thrown = true;
  }
  *failed = one.failed();
  return thrown;
}

TEST_F(FailingAllocationTest, OfAVectorThrows) {
  for (const int64_t n : {0, 1, 2}) {
    bool failed = false;
    EXPECT_TRUE(FailsAt(n, &failed)) << n;
    EXPECT_TRUE(failed) << n;
  }
  bool failed = true;
  EXPECT_FALSE(FailsAt(3, &failed)) << "only three are made";
  EXPECT_FALSE(failed);
}

TEST_F(FailingAllocationTest, FailsOnce) {
  const FailingAllocation one(0);
  std::vector<int> vector;
  EXPECT_THROW(vector.reserve(100), std::bad_alloc);
  EXPECT_NO_THROW(vector.reserve(100));
}

TEST_F(FailingAllocationTest, HappensInTheEngineToo) {
  const Status failure = NotFound("a message that is longer than what a string holds without an allocation");
  const FailingAllocation one(0);
  try {
    failure.WithContext("look for it").IgnoreError();
  } catch (const std::bad_alloc&) {
    // Unless a stream inside has caught it.
  }
  EXPECT_TRUE(one.failed());
}

// Calls, not new-expressions, which the compiler may leave out with what they make.
TEST_F(FailingAllocationTest, ReachesEveryFormOfNew) {
  constexpr std::align_val_t kAlignment{256};
  const auto fails = [](auto allocate) {
    const FailingAllocation one(0);
    try {
      return allocate() == nullptr && one.failed();
    } catch (const std::bad_alloc&) {
      return one.failed();
    }
  };
  EXPECT_TRUE(fails([] { return ::operator new(8); }));
  EXPECT_TRUE(fails([] { return ::operator new[](8); }));
  EXPECT_TRUE(fails([] { return ::operator new(8, std::nothrow); }));
  EXPECT_TRUE(fails([] { return ::operator new[](8, std::nothrow); }));
  EXPECT_TRUE(fails([] { return ::operator new(8, kAlignment); }));
  EXPECT_TRUE(fails([] { return ::operator new[](8, kAlignment); }));
  EXPECT_TRUE(fails([] { return ::operator new(8, kAlignment, std::nothrow); }));
  EXPECT_TRUE(fails([] { return ::operator new[](8, kAlignment, std::nothrow); }));
}

TEST_F(FailingAllocationTest, IsOfItsThreadAlone) {
  std::promise<void> begun;
  bool thrown = false;
  std::thread other([&thrown, begin = begun.get_future()]() mutable {
    begin.wait();
    std::vector<int> vector;
    try {
      vector.reserve(100);
    } catch (const std::bad_alloc&) {
      thrown = true;
    }
  });
  {
    const FailingAllocation one(0);
    begun.set_value();
    other.join();
  }
  EXPECT_FALSE(thrown);
}

TEST_F(FailingAllocationTest, PassesSparedAllocationsBy) {
  const FailingAllocation one(0);
  std::vector<int> spared;
  {
    const SparedAllocations all;
    EXPECT_NO_THROW(spared.reserve(100));
  }
  EXPECT_FALSE(one.failed());
  EXPECT_THROW(spared.reserve(1000), std::bad_alloc);
  EXPECT_TRUE(one.failed());
}

}  // namespace
}  // namespace damo
