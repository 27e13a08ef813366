// SPDX-License-Identifier: Apache-2.0
#include "damo/base/share_out.h"

#include <gtest/gtest.h>

#include <atomic>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "damo/base/test_allocations.h"

namespace damo {
namespace {

using Task = std::function<void()>;

// Runs the range once, in blocks of 10, with the help of three, and checks that each index was run once.
void ShareHundred(const ScheduleTask& schedule) {
  std::vector<std::atomic<int>> runs(100);
  ShareOut(
      100, 10, 3,
      [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++runs[static_cast<size_t>(i)];
      },
      schedule);
  for (const auto& run : runs) ASSERT_EQ(run, 1);
}

TEST(ShareOutTest, EmptyRangeRunsNothing) {
  const auto fail = [](auto&&...) { ADD_FAILURE(); };
  ShareOut(0, 10, 3, fail, fail);
  ShareOut(-5, 10, 3, fail, fail);
}

TEST(ShareOutTest, HelpersAreNoMoreThanThereIsWorkFor) {
  for (const auto& [total, expected] : {std::pair{1, 0}, {10, 0}, {11, 1}, {25, 2}, {40, 3}, {1000, 3}}) {
    int num_scheduled = 0;
    ShareOut(
        total, 10, 3, [](int64_t, int64_t) {}, [&](const Task&) { ++num_scheduled; });
    EXPECT_EQ(num_scheduled, expected) << total;
  }
}

TEST(ShareOutTest, PoolThatNeverComesToItIsNotWaitedFor) {
  std::vector<Task> late;
  ShareHundred([&](Task task) { late.push_back(std::move(task)); });
  EXPECT_EQ(late.size(), 3U);
  for (const Task& task : late) task();  // the range is gone
}

TEST(ShareOutTest, PoolMayRunTasksInTheCaller) {
  ShareHundred([](const Task& task) { task(); });
}

TEST(ShareOutTest, HelpersThatHaveBegunAreWaitedFor) {
  for (int i = 0; i < 200; ++i) {
    std::vector<std::thread> threads;
    ShareHundred([&](Task task) { threads.emplace_back(std::move(task)); });
    for (std::thread& thread : threads) thread.join();
  }
}

TEST(ShareOutTest, WhatCannotBeScheduledTheCallerDoes) {
  for (int num_scheduled = 0; num_scheduled < 3; ++num_scheduled) {
    std::vector<std::thread> threads;
    ShareHundred([&](Task task) {
      if (threads.size() == static_cast<size_t>(num_scheduled)) throw std::bad_alloc();
      threads.emplace_back(std::move(task));
    });
    EXPECT_EQ(threads.size(), static_cast<size_t>(num_scheduled));
    for (std::thread& thread : threads) thread.join();
  }
}

TEST(ShareOutTest, WithoutMemoryTheCallerDoesItAll) {
  for (int64_t n = 0; n < 8; ++n) {
    std::vector<Task> never;
    std::vector<std::atomic<int>> runs(100);
    const Executor::Block block = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++runs[static_cast<size_t>(i)];
    };
    const ScheduleTask schedule = [&](Task task) { never.push_back(std::move(task)); };
    {
      const FailingAllocation one(n);
      ShareOut(100, 10, 3, block, schedule);
    }
    for (const auto& run : runs) ASSERT_EQ(run, 1) << "allocation " << n;
  }
}

}  // namespace
}  // namespace damo
