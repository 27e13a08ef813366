// SPDX-License-Identifier: Apache-2.0
#include "damo/base/fair_shared_mutex.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace damo {
namespace {

TEST(FairSharedMutexTest, ReadersShareAndAWriterExcludes) {
  FairSharedMutex mutex;
  {
    const std::shared_lock<FairSharedMutex> first(mutex);
    std::thread([&mutex] { const std::shared_lock<FairSharedMutex> second(mutex); }).join();
    EXPECT_FALSE(std::unique_lock<FairSharedMutex>(mutex, std::try_to_lock).owns_lock());
  }
  const std::unique_lock<FairSharedMutex> writer(mutex, std::try_to_lock);
  EXPECT_TRUE(writer.owns_lock());
}

// Readers that overlap without a gap would keep the writer out of a std::shared_mutex for ever.
TEST(FairSharedMutexTest, AWriterGetsInAmidReadersWithoutAGap) {
  FairSharedMutex mutex;
  std::atomic<bool> stop{false};
  std::atomic<int> reads{0};
  std::vector<std::thread> readers;
  for (int t = 0; t < 4; ++t) {
    readers.emplace_back([&] {
      while (!stop) {
        const std::shared_lock<FairSharedMutex> lock(mutex);
        ++reads;
        std::this_thread::yield();
      }
    });
  }
  int written = 0;
  for (; written < 100; ++written) {
    const int before = reads;
    while (reads == before) std::this_thread::yield();
    const std::lock_guard<FairSharedMutex> lock(mutex);
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(written, 100);
}

}  // namespace
}  // namespace damo
