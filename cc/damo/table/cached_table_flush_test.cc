// SPDX-License-Identifier: Apache-2.0
//
// What happens beside a CachedTable's flushes: rows updated, born again or released, lookups, and failures.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "damo/base/executor.h"
#include "damo/table/test_cached_table.h"

namespace damo {
namespace {

TEST_F(CachedTableTest, FailedFlushLosesNothingAndTheNextOneHasAll) {
  const Keys keys = KeyRange(0, 1500);  // three copies of a flush
  const std::vector<std::function<void(TroubledStorage&)>> troubles = {
      [](TroubledStorage& storage) { storage.before_sorted_batch = FailAt<>(0, "trouble"); },
      [](TroubledStorage& storage) { storage.before_sorted_row = FailAt<uint64_t>(0, "trouble"); },
      [](TroubledStorage& storage) { storage.before_sorted_row = FailAt<uint64_t>(700, "trouble"); },
      [](TroubledStorage& storage) { storage.before_sorted_row = FailAt<uint64_t>(1499, "trouble"); },
      [](TroubledStorage& storage) { storage.before_commit = FailAt<>(0, "trouble"); },
  };
  Make(Foreground());
  for (size_t i = 0; i < troubles.size(); ++i) {
    ApplyToBoth(NewBatchOf(keys));
    troubles[i](tables_->storage());
    EXPECT_TRUE(FailsWith(tables_->Flush(), StatusCode::kIoError, "trouble")) << i;
    EXPECT_EQ(table_->memory().num_dirty, 1500) << i;
    ExpectRecoveryHasAll(keys);
    ApplyToBoth(NewBatch(100, 2000));
    EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 2000))) << i;
    ASSERT_OK(tables_->Flush());
    EXPECT_EQ(table_->memory().num_dirty, 0) << i;
    ExpectStorageHasAll(KeyRange(0, 2000));
  }
}

// The flush is interrupted when 0, 1 and 2 of its 3 copies have been written, by apply calls for rows that
// were copied, were not, and did not exist.
TEST_F(CachedTableTest, RowsUpdatedDuringAFlushAreFlushedLater) {
  const Keys keys = KeyRange(0, 2000);
  for (const uint64_t interrupted_at : {0, 600, 1400}) {
    for (const bool fails : {false, true}) {
      Make(Foreground());
      ApplyToBoth(NewBatchOf(KeyRange(0, 1500)));
      tables_->storage().before_sorted_row = [&](uint64_t key) {
        if (key != interrupted_at) return Status();
        Meanwhile([&] {
          for (int i = 0; i < 3; ++i) ApplyToBoth(NewBatch(400, keys.size()));
        });
        return fails ? IoError("trouble") : Status();
      };
      EXPECT_EQ(tables_->Flush().ok(), !fails);
      tables_->storage().before_sorted_row = nullptr;
      EXPECT_GT(table_->memory().num_dirty, 100);
      EXPECT_TRUE(SameTables(*table_, *oracle_, keys));
      ExpectRecoveryHasAll(keys);
      ApplyToBoth(NewBatch(100, keys.size()));
      ExpectRecoveryHasAll(keys);
      ASSERT_OK(tables_->Flush());
      EXPECT_EQ(table_->memory().num_dirty, 0);
      ExpectStorageHasAll(keys);
    }
  }
}

TEST_F(CachedTableTest, RowsBornAgainDuringAFlushAreRecovered) {
  TestTables::Options options = Foreground();
  options.ttl_seconds = 10;
  Make(options);
  const Keys keys = KeyRange(0, 1500);
  for (int i = 0; i < 3; ++i) ApplyToBoth(NewBatchOf(keys));
  tables_->storage().before_sorted_row = [&](uint64_t key) {
    if (key != 600) return Status();
    Meanwhile([&] {
      ApplyToBoth(NewBatch(500, keys.size()));
      clock_.now_millis += 10'000;
      for (int i = 0; i < 5; ++i) ApplyToBoth(NewBatch(500, keys.size()));
    });
    return Status();
  };
  ASSERT_OK(tables_->Flush());
  tables_->storage().before_sorted_row = nullptr;
  EXPECT_TRUE(SameTables(*table_, *oracle_, keys));
  ExpectRecoveryHasAll(keys);
}

// ---- rows that are released when they have expired ----

// The storage drops what is released at once, so a record that still needed it would find a gap.
TEST_F(CachedTableTest, NoRecordNeedsARowThatWasReleased) {
  TestTables::Options options = Small();
  options.ttl_seconds = 10;
  Make(options);
  const Keys keys = KeyRange(0, 300);
  // Between a flush's beginning and its end rows are updated, expire, and begin anew.
  tables_->storage().before_sorted_row = [&](uint64_t /*key*/) {
    if (random_() % 50 != 0) return Status();
    Meanwhile([&] {
      clock_.now_millis += static_cast<int64_t>(random_() % 7'000);
      Apply(*table_, CopyTo(*oracle_, NewBatch(40, keys.size())));
    });
    return Status();
  };
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE(round);
    Apply(*table_, CopyTo(*oracle_, NewBatch(60, keys.size())));
    clock_.now_millis += static_cast<int64_t>(random_() % 4'000);
    if (random_() % 4 == 0) PushOut();
    if (random_() % 2 == 0) {
      ASSERT_OK(tables_->Flush());
    }
    ASSERT_NO_FATAL_FAILURE(ExpectRecoveryHasAll(keys));
    ASSERT_TRUE(SameTables(*table_, *oracle_, keys));
  }
  EXPECT_TRUE(table_->rows_released());
}

TEST_F(CachedTableTest, NothingIsReleasedByAFlushThatFails) {
  TestTables::Options options = Foreground();
  options.ttl_seconds = 10;
  Make(options);
  ApplyToBoth(NewBatchOf(KeyRange(0, 10)));
  ASSERT_OK(tables_->Flush());
  clock_.now_millis += 9'999;
  ApplyToBoth(NewBatchOf(KeyRange(0, 5)));
  clock_.now_millis += 5'000;
  tables_->storage().before_commit = [] { return IoError("no"); };
  EXPECT_FALSE(tables_->Flush().ok());
  ExpectRecoveryHasAll(KeyRange(0, 10));
  EXPECT_EQ(NumStored(), 10);
  tables_->storage().before_commit = nullptr;
  ASSERT_OK(tables_->Flush());
  EXPECT_EQ(NumStored(), 5);
  ExpectStorageHasAll(KeyRange(0, 10));
}

// Its record was made of rows that expire before the last part is applied.
TEST_F(CachedTableTest, BatchLargerThanTheCacheFindsRowsThatExpireMeanwhile) {
  for (const Durability durability : {Durability::kWal, Durability::kCheckpoint}) {
    SCOPED_TRACE(DurabilityName(durability));
    rows_ = NewMemoryStorage();
    oracle_rows_ = NewMemoryStorage();
    TestTables::Options options = Small();
    options.ttl_seconds = 10;
    options.durability = durability;
    Make(options);
    const Keys keys = KeyRange(0, 4000);
    for (uint64_t first = 0; first < keys.size(); first += 200) ApplyToBoth(NewBatchOf(KeyRange(first, 200)));
    ASSERT_OK(tables_->Flush());
    clock_.now_millis += 9'999;
    const Batch batch = NewBatchOf(keys);
    Apply(*oracle_, batch);
    // The first flush is to make room, in mode "checkpoint" the second is to survive; then come those between
    // the parts.
    int num_flushes = durability == Durability::kCheckpoint ? -2 : -1;
    tables_->storage().before_sorted_batch = [&] {
      if (++num_flushes > 0) clock_.now_millis += 5;
      return Status();
    };
    Apply(*table_, batch);
    tables_->storage().before_sorted_batch = nullptr;
    EXPECT_GT(num_flushes, 2);
    EXPECT_TRUE(SameTables(*table_, *oracle_, {0}));
    for (const uint64_t key : {uint64_t{0}, uint64_t{2000}, uint64_t{3999}}) {
      EXPECT_EQ((*table_->GetRow(key))->header.update_num, 2);
    }
  }
}

// ---- lookups beside flushes ----

// What happens between a training lookup's reading and its keeping of what it has read.
enum class Then { kApply, kApplyAndFlush, kApplyFlushAndPushOut };

class StaleReadTest : public CachedTableTest, public testing::WithParamInterface<Then> {};

std::string ThenName(const testing::TestParamInfo<Then>& info) {
  constexpr const char* kNames[] = {"Apply", "ApplyAndFlush", "ApplyFlushAndPushOut"};
  return kNames[static_cast<int>(info.param)];
}

INSTANTIATE_TEST_SUITE_P(Cases, StaleReadTest,
                         testing::Values(Then::kApply, Then::kApplyAndFlush, Then::kApplyFlushAndPushOut),
                         ThenName);

TEST_P(StaleReadTest, LookupKeepsNoRowOlderThanTheStorageHas) {
  Make(Small());
  const Keys keys = KeyRange(0, 100);
  ApplyToBoth(NewBatchOf(KeyRange(0, 50)));
  ASSERT_OK(tables_->Flush());
  PushOut();
  bool done = false;
  tables_->storage().after_read = [&](Span<const uint64_t>) {
    if (std::exchange(done, true)) return Status();
    Meanwhile([&] {
      ApplyToBoth(NewBatchOf(keys));
      if (GetParam() != Then::kApply) {
        EXPECT_TRUE(tables_->Flush().ok());
      }
      if (GetParam() == Then::kApplyFlushAndPushOut) PushOut();
    });
    return Status();
  };
  LookupToTrain(*table_, keys);
  EXPECT_TRUE(SameBits(LookupToTrain(*table_, keys), Lookup(*oracle_, keys)));
  EXPECT_TRUE(SameTables(*table_, *oracle_, keys));
  ApplyToBoth(NewBatchOf(keys));
  EXPECT_TRUE(SameTables(*table_, *oracle_, keys));
}

// An executor in the calling thread that does something else once, when its first range is done.
class InterruptingExecutor final : public Executor {
 public:
  explicit InterruptingExecutor(std::function<void()> interrupt) : interrupt_(std::move(interrupt)) {}
  void ParallelFor(int64_t total, int64_t min_block, const Block& block) override {
    Executor::Inline()->ParallelFor(total, min_block, block);
    if (const auto interrupt = std::exchange(interrupt_, nullptr)) interrupt();
  }

 private:
  std::function<void()> interrupt_;
};

// A table that began empty asks the storage for nothing, until a row comes into it: here after the lookup has
// found that its keys are not in memory, and before it takes slots for them. It sorts enough of them
// meanwhile.
TEST_F(CachedTableTest, LookupAsksForRowsThatCameIntoTheStorageMeanwhile) {
  Make(Foreground());
  CachedTable& table = *tables_->cached().at(kGroup);
  ASSERT_OK(table.CheckWhetherEmpty(*rows_));
  Apply(*oracle_, NewBatchOf({7}));
  std::string row;
  ASSERT_OK(oracle_rows_->MultiGet(kGroup, Keys{7}, [&](size_t, std::optional<std::string_view> stored) {
    row = stored.value();
    return Status();
  }));
  std::thread import;
  InterruptingExecutor executor([&] {
    std::atomic<bool> waits{false};
    import = std::thread([&] {
      const std::unique_ptr<StorageBatch> batch = rows_->NewBatch();
    EXPECT_TRUE(batch->PutRow(kGroup, 7, row).ok());
    EXPECT_TRUE(rows_->Write(*batch).ok());
    waits = true;
    table.TakeFromStorage(oracle_->state(), Keys{7});
  });
  while (!waits) std::this_thread::yield();
});
const Keys keys = KeyRange(0, 50'000);
LookupOptions options;
options.training = true;
Floats weights(keys.size() * kDim);
EXPECT_TRUE(IsOk(table.Lookup(keys, options, executor, weights)));
import.join();
EXPECT_TRUE(SameBits(LookupToTrain(table, {7}), Lookup(*oracle_, {7})));
ApplyToBoth(NewBatchOf({7}));
EXPECT_TRUE(SameTables(table, *oracle_, {7}));
}

}  // namespace
}  // namespace damo
