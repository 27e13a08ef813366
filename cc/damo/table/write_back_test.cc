// SPDX-License-Identifier: Apache-2.0
//
// Back-pressure, of two kinds. Rows that are updated again and again take little room in the cache, and their
// records ever more on the disk; rows that are updated once each fill the cache before the log is large.
#include "damo/table/write_back.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#include "damo/table/test_cached_table.h"

namespace damo {
namespace {

constexpr uint64_t kRedoBytes = 100'000;
constexpr size_t kFewRows = 64;
constexpr int kCallsPerRedoBytes = 32;  // at least
// Of the record of a call for these rows, and of the segment that begins with it.
constexpr uint64_t kRecordBytes = 48 + kFewRows * (16 + kDim * sizeof(float)) + 32 + 24;

class PressureTest : public CachedTableTest {
 protected:
  int64_t num_flushes() { return tables_->write_back().num_flushes(); }

  // Whether it comes to that; no test waits so long that passes.
  static bool ComesTrue(const std::function<bool()>& condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }
  bool BackgroundFlushes() {
    return ComesTrue([this] {
      tables_->write_back().NoteDirty(0, 0);  // as the next call would
      return num_flushes() > 0;
    });
  }
};

class RedoPressureTest : public PressureTest {
 protected:
  void MakeWithLittleRedo(bool background) {
    TestTables::Options options;
    options.redo_bytes = kRedoBytes;
    options.background = background;
    Make(options);
  }
  uint64_t redo_bytes() { return tables_->log().bytes(); }
  Batch NextBatch() { return NewBatchOf(KeyRange(0, kFewRows)); }
  // Until the log has more than `bytes`.
  void FillLog(uint64_t bytes) {
    while (redo_bytes() <= bytes) ApplyToBoth(NextBatch());
  }
};

TEST_F(RedoPressureTest, ApplyCallFlushesWhenTheLogIsTwiceItsSize) {
  MakeWithLittleRedo(/*background=*/false);
  for (int call = 0; call < 10 * kCallsPerRedoBytes; ++call) {
    ApplyToBoth(NextBatch());
    ASSERT_LE(redo_bytes(), 2 * kRedoBytes + kRecordBytes) << "call " << call;
  }
  EXPECT_GE(num_flushes(), 3);
  EXPECT_LE(num_flushes(), 6) << "far more often than it needs to";
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, kFewRows)));
  ExpectRecoveryHasAll(KeyRange(0, kFewRows));
}

TEST_F(RedoPressureTest, BackgroundFlushesWhenTheLogHasItsSize) {
  MakeWithLittleRedo(/*background=*/true);
  FillLog(kRedoBytes);  // too little for an apply call to flush
  EXPECT_TRUE(BackgroundFlushes());
  EXPECT_EQ(redo_bytes(), 0U);
  ExpectStorageHasAll(KeyRange(0, kFewRows));
}

TEST_F(RedoPressureTest, ApplyCallFailsWhereTheLogCanNeitherGrowNorBeFlushed) {
  MakeWithLittleRedo(/*background=*/false);
  FillLog(2 * kRedoBytes);
  tables_->storage().before_commit = [] { return IoError("the disk is full"); };
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(FailsWith(TryApply(*table_, NextBatch()).status(), StatusCode::kIoError, "the disk is full"));
  }
  EXPECT_LE(redo_bytes(), 2 * kRedoBytes + kRecordBytes);
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, kFewRows)));
  tables_->storage().before_commit = nullptr;
  ApplyToBoth(NextBatch());
  EXPECT_LE(redo_bytes(), kRecordBytes);
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, kFewRows)));
}

TEST_F(RedoPressureTest, ApplyCallsWaitForAFlushThatIsUnderWay) {
  MakeWithLittleRedo(/*background=*/true);
  std::mutex mutex;
  std::condition_variable changed;
  bool open = false;
  tables_->storage().before_commit = [&] {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return open; });
    return Status();
  };
  std::atomic<bool> done{false};
  std::thread trainer([&] {
    for (int call = 0; call < 6 * kCallsPerRedoBytes; ++call) {
      ApplyToBoth(NextBatch());
      EXPECT_LE(redo_bytes(), 2 * kRedoBytes + kRecordBytes) << "call " << call;
    }
    done = true;
  });
  EXPECT_TRUE(ComesTrue([&] { return done || redo_bytes() > 2 * kRedoBytes; }));
  EXPECT_FALSE(done) << "the log did not grow";
  EXPECT_EQ(num_flushes(), 0);
  {
    const std::lock_guard<std::mutex> lock(mutex);
    open = true;
  }
  changed.notify_all();
  trainer.join();
  tables_->write_back().Stop();  // it has the gate
  EXPECT_GT(num_flushes(), 0);
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, kFewRows)));
}

// ---- rows that are newer in memory than in the storage ----

constexpr int64_t kCacheBytes = int64_t{4} << 20;
constexpr size_t kRowsPerCall = 256;

class DirtyPressureTest : public PressureTest {
 protected:
  // With a log that could hold many times what the cache can.
  void MakeWithMuchRedo(bool background) {
    TestTables::Options options;
    options.cache_bytes = kCacheBytes;
    options.redo_bytes = uint64_t{1} << 30;
    options.background = background;
    Make(options);
    row_bytes_ = static_cast<int64_t>(tables_->cached().at(kGroup)->source()->row_bytes());
  }
  // Updates rows that no call has updated before.
  void ApplyNext() {
    ApplyToBoth(NewBatchOf(KeyRange(num_rows_, kRowsPerCall)));
    num_rows_ += kRowsPerCall;
  }
  // Of all rows updated so far.
  int64_t bytes() const { return static_cast<int64_t>(num_rows_) * row_bytes_; }

  int64_t row_bytes_ = 0;
  size_t num_rows_ = 0;
};

// Which is before there is no room; and what a flush has settled counts no more.
TEST_F(DirtyPressureTest, ApplyCallFlushesWhenThreeQuartersOfTheCacheAreDirty) {
  MakeWithMuchRedo(/*background=*/false);
  const int64_t bytes_per_call = static_cast<int64_t>(kRowsPerCall) * row_bytes_;
  const int64_t calls_per_flush = kCacheBytes / 4 * 3 / bytes_per_call + 1;
  for (int64_t call = 0; call < 2 * calls_per_flush + 1; ++call) {
    ApplyNext();
    ASSERT_EQ(num_flushes(), call / calls_per_flush) << "call " << call;
  }
  EXPECT_EQ(table_->memory().num_dirty, static_cast<int64_t>(kRowsPerCall)) << "of the last call alone";
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, num_rows_)));
  ExpectRecoveryHasAll(KeyRange(0, num_rows_));
}

TEST_F(DirtyPressureTest, BackgroundFlushesWhenAThirdOfTheCacheIsDirty) {
  MakeWithMuchRedo(/*background=*/true);
  while (bytes() <= kCacheBytes / 3) {
    ASSERT_EQ(num_flushes(), 0) << bytes() << " bytes are dirty";
    ApplyNext();
  }
  EXPECT_TRUE(BackgroundFlushes());  // apply calls would not, by far
  EXPECT_EQ(table_->memory().num_dirty, 0);
  ExpectStorageHasAll(KeyRange(0, num_rows_));
}

}  // namespace
}  // namespace damo
