// SPDX-License-Identifier: Apache-2.0
#include "damo/base/thread_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "damo/base/test_allocations.h"

namespace damo {
namespace {

// Lets threads wait until `count` of them have arrived.
class Rendezvous {
 public:
  explicit Rendezvous(int count) : missing_(count) {}
  void Arrive() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (--missing_ == 0) all_here_.notify_all();
  }
  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    all_here_.wait(lock, [this] { return missing_ <= 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_here_;
  int missing_;
};

// The blocks of one call, in the order of their ranges.
std::vector<std::pair<int64_t, int64_t>> BlocksOf(Executor& executor, int64_t total, int64_t min_block) {
  std::mutex mutex;
  std::vector<std::pair<int64_t, int64_t>> blocks;
  executor.ParallelFor(total, min_block, [&](int64_t begin, int64_t end) {
    const std::lock_guard<std::mutex> lock(mutex);
    blocks.emplace_back(begin, end);
  });
  std::sort(blocks.begin(), blocks.end());
  return blocks;
}

TEST(ThreadPoolTest, BlocksCoverTheRangeOnceAndKeepTheirLeastSize) {
  for (const int num_threads : {0, 1, 3}) {
    ThreadPool pool(num_threads);
    for (const int64_t total : {1, 2, 7, 64, 1000}) {
      for (const int64_t min_block : {-1, 0, 1, 3, 64, 5000}) {
        SCOPED_TRACE(testing::Message()
                     << num_threads << " threads, total " << total << ", min_block " << min_block);
        int64_t expected_begin = 0;
        for (const auto& [begin, end] : BlocksOf(pool, total, min_block)) {
          EXPECT_EQ(begin, expected_begin);
          EXPECT_LT(begin, end);
          EXPECT_TRUE(end == total || end - begin >= min_block) << begin << " to " << end;
          expected_begin = end;
        }
        EXPECT_EQ(expected_begin, total);
      }
    }
  }
}

TEST(ThreadPoolTest, LargestRangeIsSplitWithoutOverflow) {
  ThreadPool pool(2);
  const auto blocks = BlocksOf(pool, INT64_MAX, 1);
  EXPECT_EQ(blocks.front().first, 0);
  EXPECT_EQ(blocks.back().second, INT64_MAX);
}

TEST(ThreadPoolTest, EmptyRangeRunsNothing) {
  ThreadPool pool(2);
  EXPECT_TRUE(BlocksOf(pool, 0, 1).empty());
  EXPECT_TRUE(BlocksOf(pool, -5, 1).empty());
}

TEST(ThreadPoolTest, NegativeNumberOfThreadsRunsInTheCaller) {
  ThreadPool pool(-1);
  const std::thread::id caller = std::this_thread::get_id();
  pool.ParallelFor(100, 1, [&](int64_t, int64_t) { EXPECT_EQ(std::this_thread::get_id(), caller); });
}

TEST(ThreadPoolTest, BlocksRunAtTheSameTime) {
  constexpr int kThreads = 3;
  ThreadPool pool(kThreads - 1);
  Rendezvous all(kThreads);
  std::atomic<int> num_blocks{0};
  pool.ParallelFor(kThreads, 1, [&](int64_t, int64_t) {  // ends only if every thread takes part
    ++num_blocks;
    all.Arrive();
    all.Wait();
  });
  EXPECT_EQ(num_blocks, kThreads);
}

TEST(ThreadPoolTest, CallGetsOnWhileAnotherHoldsEveryThread) {
  ThreadPool pool(1);
  Rendezvous occupied(2);
  Rendezvous released(1);
  std::thread other([&] {
    pool.ParallelFor(2, 1, [&](int64_t, int64_t) {
      occupied.Arrive();
      released.Wait();
    });
  });
  occupied.Wait();
  EXPECT_EQ(BlocksOf(pool, 100, 1).back().second, 100);
  released.Arrive();
  other.join();
}

TEST(ThreadPoolTest, BlocksMayCallThePoolThemselves) {
  ThreadPool pool(2);
  std::atomic<int64_t> sum{0};
  pool.ParallelFor(10, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      pool.ParallelFor(10, 1,
                       [&](int64_t inner_begin, int64_t inner_end) { sum += inner_end - inner_begin; });
    }
  });
  EXPECT_EQ(sum, 100);
}

TEST(ThreadPoolTest, ManyCallersShareThePool) {
  constexpr int kCallers = 8;
  constexpr int kCalls = 300;
  constexpr int64_t kTotal = 50;
  ThreadPool pool(3);
  std::vector<std::thread> callers;
  callers.reserve(kCallers);
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&pool] {
      for (int call = 0; call < kCalls; ++call) {
        std::vector<int> visits(kTotal, 0);  // plain ints: also shows that a call ends after its blocks
        pool.ParallelFor(kTotal, 1, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
        });
        ASSERT_EQ(visits, std::vector<int>(kTotal, 1));
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST(ThreadPoolTest, PoolThatNeverRanIsDestroyed) { ThreadPool pool(4); }

TEST(ThreadPoolTest, WithoutMemoryTheCallingThreadDoesItAll) {
  for (int64_t n = 0; n < 8; ++n) {
    ThreadPool pool(3);
    std::vector<std::atomic<int>> runs(100);
    const Executor::Block block = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++runs[i];
    };
    {
      const FailingAllocation one(n);
      pool.ParallelFor(100, 1, block);
    }
    for (const auto& run : runs) ASSERT_EQ(run, 1) << "allocation " << n;
  }
}

}  // namespace
}  // namespace damo
