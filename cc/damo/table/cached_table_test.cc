// SPDX-License-Identifier: Apache-2.0
//
// What sets a CachedTable apart from a DirectTable, its oracle: rows stay in memory, make room for others,
// come to the storage later, and survive what goes wrong on the way.
#include "damo/table/cached_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "damo/base/thread_pool.h"
#include "damo/config/store_options.h"
#include "damo/table/test_cached_table.h"

namespace damo {
namespace {

// ---- little memory ----

class DurabilityTest : public CachedTableTest, public testing::WithParamInterface<Durability> {};

INSTANTIATE_TEST_SUITE_P(Modes, DurabilityTest,
                         testing::Values(Durability::kWal, Durability::kSync, Durability::kCheckpoint),
                         [](const auto& info) { return std::string(DurabilityName(info.param)); });

TEST_P(DurabilityTest, BatchLargerThanTheCacheIsLikeAnyOther) {
  TestTables::Options options = Small();
  options.durability = GetParam();
  Make(options);
  const Keys keys = KeyRange(0, 4000);
  for (int step = 0; step < 3; ++step) {
    ApplyToBoth(NewBatch(6000, keys.size()));
    ApplyToBoth(NewBatch(100, keys.size()));
    EXPECT_TRUE(SameBits(LookupToTrain(*table_, keys), Lookup(*oracle_, keys)));
  }
  EXPECT_TRUE(SameTables(*table_, *oracle_, keys));
  ASSERT_OK(tables_->Flush());
  EXPECT_EQ(table_->memory().num_dirty, 0);
  EXPECT_EQ(tables_->log().bytes(), 0);
  ExpectStorageHasAll(keys);
}

TEST_P(DurabilityTest, RowsThatMakeRoomForOthersAreNotLost) {
  TestTables::Options options = Small();
  options.durability = GetParam();
  options.background = true;
  Make(options);
  const Keys keys = KeyRange(0, 3000);
  for (int step = 0; step < 60; ++step) {
    const Batch batch = NewBatch(200, keys.size());
    ASSERT_TRUE(SameBits(LookupToTrain(*table_, batch.keys), Lookup(*oracle_, batch.keys))) << step;
    ApplyToBoth(batch);
    EXPECT_LE(tables_->memory().used_bytes(), kFewSlabs + kIndexBytes) << step;
  }
  EXPECT_GT(table_->memory().num_evicted, 1000);
  EXPECT_TRUE(SameTables(*table_, *oracle_, keys));
  ASSERT_OK(tables_->Flush());
  ExpectStorageHasAll(keys);
}

// The record has the rate that was used and sums that were not clipped yet.
TEST_F(CachedTableTest, RatesOfCallsAndRowOptionsAreReplayedToTheSameBits) {
  GroupConfig config = TableConfig(kGroup, kDim, "adam", "random_normal");
  config.optimizer.Insert("clipnorm", 0.5);
  config.optimizer.Insert("weight_decay", 0.1);
  Make(Foreground(), config);
  for (const double rate : {0.125, 1e-3, 0.0, 0.3}) {
    const Batch batch = NewBatch(200, 100);
    ApplyOptions options;
    options.learning_rate = rate;
    Apply(*table_, batch, options);
    Apply(*oracle_, batch, options);
  }
  ExpectRecoveryHasAll(KeyRange(0, 100));
}

// ---- the filter ----

TEST_P(DurabilityTest, FilterIsTheOraclesWhateverTheSizeOfBatchesAndCache) {
  TestTables::Options options = Small();
  options.durability = GetParam();
  Make(options, FilteredConfig());
  for (int step = 0; step < 12; ++step) {
    ApplyToBoth(NewBatch(step % 4 == 3 ? 5000 : 150, 4000));
    if (step % 3 == 2) LookupToTrain(*table_, KeyRange(0, 500));
  }
  EXPECT_GT(table_->counters().blocked_keys, 1000);
  EXPECT_GT(table_->num_rows(), 1000);
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 4000)));
  EXPECT_TRUE(SameBits(Lookup(*table_, KeyRange(0, 4000)), Lookup(*oracle_, KeyRange(0, 4000))));
  ASSERT_OK(tables_->Flush());
  ExpectStorageHasAll(KeyRange(0, 4000));
  ExpectSameFilters(*rows_, *oracle_rows_);
}

// What counts twice, or not at all, if flush and log are not of the same step.
TEST_F(CachedTableTest, CountsAreRecoveredExactlyOnce) {
  Make(Foreground(), FilteredConfig());
  const Keys keys = KeyRange(0, 3000);
  for (int step = 0; step < 6; ++step) {
    ApplyToBoth(NewBatch(1000, keys.size()));
    if (step == 2) {
      ASSERT_OK(tables_->Flush());
    }
  }
  // A flush in the middle of which more is counted.
  int num_rows = 0;
  tables_->storage().before_sorted_row = [&](uint64_t /*key*/) {
    if (++num_rows == 20) Meanwhile([&] { ApplyToBoth(NewBatch(1000, keys.size())); });
    return Status();
  };
  ASSERT_OK(tables_->Flush());
  tables_->storage().before_sorted_row = nullptr;
  EXPECT_GE(num_rows, 20);
  ApplyToBoth(NewBatch(1000, keys.size()));
  ExpectRecoveryHasAll(keys);

  // The recovered counts, brought to the storage by a flush of their own.
  const std::unique_ptr<Storage> copy = CopyOfStorage();
  TestTables recovered(copy.get(), &clock_, Foreground());
  recovered.Add(FilteredConfig());
  const StatusOr<Manifest> manifest = LoadOrCreateManifest(*copy, std::nullopt, false);
  ASSERT_OK(manifest.status());
  ASSERT_OK(ReplayRedoLog(tables_->log_directory(), manifest->redo_lsn, recovered.cached(), *copy).status());
  ASSERT_OK(recovered.Flush());
  ExpectSameFilters(*copy, *oracle_rows_);
}

TEST_F(CachedTableTest, CountsOfAFailedFlushAreInTheNextOne) {
  Make(Foreground(), FilteredConfig());
  for (int step = 0; step < 3; ++step) ApplyToBoth(NewBatch(2000, 3000));
  tables_->storage().before_commit = [] { return IoError("trouble"); };
  EXPECT_FALSE(tables_->Flush().ok());
  tables_->storage().before_commit = nullptr;
  ApplyToBoth(NewBatch(10, 3000));
  ASSERT_OK(tables_->Flush());
  ExpectSameFilters(*rows_, *oracle_rows_);
}

TEST_F(CachedTableTest, DamagedPageOfTheFilterIsDataLoss) {
  Make(Foreground(), FilteredConfig());
  ApplyToBoth(NewBatch(2000, 3000));
  ASSERT_OK(tables_->Flush());
  const std::unique_ptr<StorageBatch> batch = rows_->NewBatch();
  ASSERT_OK(batch->PutManifest("filter/005/00000002", "short"));
  ASSERT_OK(rows_->Write(*batch));
  GroupFilter filter(kGroup, *table_->recipe()->config.filter(), nullptr);
  EXPECT_TRUE(FailsWith(filter.Load(*rows_), StatusCode::kDataLoss,
                        "manifest entry 'filter/005/00000002' has 5 bytes, expected 4096"));
}

TEST_F(CachedTableTest, FilterTakesItsMemoryFromTheRows) {
  TestTables::Options options = Small();
  options.cache_bytes = 8 * kFewSlabs;
  Make(options);
  for (int i = 0; i < 8; ++i) {
    ApplyToBoth(NewBatch(1500, 10'000));
    ASSERT_OK(tables_->Flush());
  }
  const int64_t used = tables_->memory().used_bytes();
  ASSERT_GT(used, 6 * kFewSlabs) << "the cache is nearly full of clean rows";
  GroupConfig config = Config();
  config.min_count = 2;
  config.filter_capacity = 60'000;  // 430 KB
  const auto recipe = MakeGroupRecipe(config, std::nullopt);
  ASSERT_OK(recipe.status());
  EXPECT_TRUE(*table_->TryChangeRecipe(*recipe, tables_->storage(), [] { return Status(); }));
  EXPECT_LE(tables_->memory().used_bytes(), 8 * kFewSlabs);
  EXPECT_EQ(table_->memory().filter_bytes, 0) << "reserved; taken when it is used";
  Apply(*table_, {{1'000'000}, Floats(kDim, 1.0f)});
  EXPECT_EQ(table_->memory().filter_bytes, 4096);
  EXPECT_GT(table_->memory().filter_fill.value_or(0), 0);
}

TEST_F(CachedTableTest, BuffersOfALargeCallAreLetGoAndThoseOfCommonOnesKept) {
  TestTables::Options options = Foreground();
  options.cache_bytes = int64_t{32} << 20;
  Make(options);
  ApplyToBoth(NewBatch(2000, 10'000));
  const int64_t common_bytes = table_->memory().buffer_bytes;
  EXPECT_GT(common_bytes, 2000 * kDim * static_cast<int64_t>(sizeof(float)));
  ApplyToBoth(NewBatch(200'000, 10'000));
  EXPECT_LE(table_->memory().buffer_bytes, options.cache_bytes / 16);
  ApplyToBoth(NewBatch(2000, 10'000));
  EXPECT_GE(table_->memory().buffer_bytes, common_bytes / 2);
}

TEST_F(CachedTableTest, RowsAreReadPastACacheThatIsAllDirty) {
  Make(Small());
  Batch old = NewBatchOf(KeyRange(10'000, 500));
  ApplyToBoth(old);
  ASSERT_OK(tables_->Flush());
  PushOut();
  // As many as the cache has room for; an apply call with more would flush.
  while (tables_->write_back().num_flushes() == 1 && table_->memory().num_dirty < 400) {
    ApplyToBoth(NewBatch(50, 10'000));
  }
  const int64_t num_dirty = table_->memory().num_dirty;
  EXPECT_GT(num_dirty, 300);
  const Keys keys = KeyRange(0, 12'000);
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(SameBits(LookupToTrain(*table_, keys), Lookup(*oracle_, keys)));
    EXPECT_TRUE(SameBits(Lookup(*table_, keys), Lookup(*oracle_, keys)));
  }
  EXPECT_EQ(table_->memory().num_dirty, num_dirty);
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 11'000)));
}

TEST_F(CachedTableTest, GroupsShareTheMemory) {
  TestTables::Options options = Small();
  options.cache_bytes *= 2;
  Make(options);
  EmbeddingTable* const other = tables_->Add(Config("ones", 9));
  EmbeddingTable* const other_oracle = oracle_tables_->Add(Config("ones", 9));
  const Keys keys = KeyRange(0, 2000);
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 3; ++i) ApplyToBoth(NewBatch(200, keys.size()));
    for (int i = 0; i < 3 * (round % 3); ++i) {
      const Batch batch = NewBatch(250, keys.size());
      Apply(*other, batch);
      Apply(*other_oracle, batch);
    }
    EXPECT_TRUE(SameBits(LookupToTrain(*other, keys), Lookup(*other_oracle, keys))) << round;
    // Each group has one slab, whatever the limit.
    EXPECT_LE(tables_->memory().used_bytes(),
              2 * kFewSlabs + 2 * kIndexBytes + static_cast<int64_t>(CacheMemory::kSlabBytes));
  }
  EXPECT_GT(other->memory().num_rows, 256) << "the second group came to memory of the first";
  EXPECT_TRUE(SameTables(*table_, *oracle_, keys));
  EXPECT_TRUE(SameTables(*other, *other_oracle, keys));
}

// ---- what stays in memory ----

TEST_F(CachedTableTest, TrainingLookupKeepsWhatItReads) {
  Make();
  ApplyToBoth(NewBatchOf(KeyRange(0, 100)));
  ASSERT_OK(tables_->Flush());
  Make();
  CountReads();
  const Keys keys = KeyRange(50, 100);
  EXPECT_TRUE(SameBits(LookupToTrain(*table_, keys), Lookup(*oracle_, keys)));
  EXPECT_EQ(num_read_, 100);
  EXPECT_EQ(table_->memory().num_rows, 100) << "keys without a row, too";
  EXPECT_TRUE(SameBits(LookupToTrain(*table_, keys), Lookup(*oracle_, keys)));
  ApplyToBoth(NewBatchOf(keys));
  EXPECT_EQ(num_read_, 100) << "nothing is read twice";
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 200)));
}

TEST_F(CachedTableTest, EvaluationChangesNothing) {
  Make(Small());
  ApplyToBoth(NewBatchOf(KeyRange(0, 2000)));
  ASSERT_OK(tables_->Flush());
  Make(Small());
  LookupToTrain(*table_, KeyRange(0, 3000));
  const TableMemory before = table_->memory();
  CountReads();
  LookupToTrain(*table_, KeyRange(0, 100));
  const size_t num_read_of_100 = num_read_;
  for (int i = 0; i < 3; ++i) {
    const Keys keys = KeyRange(0, 4000);
    EXPECT_TRUE(SameBits(Lookup(*table_, keys), Lookup(*oracle_, keys)));
  }
  const TableMemory after = table_->memory();
  EXPECT_EQ(after.num_rows, before.num_rows);
  EXPECT_EQ(after.num_dirty, 0);
  EXPECT_EQ(after.num_evicted, before.num_evicted + static_cast<int64_t>(num_read_of_100));
  num_read_ = 0;
  LookupToTrain(*table_, KeyRange(0, 100));
  EXPECT_EQ(num_read_, 0) << "what training brought in is still there";
  EXPECT_EQ(table_->step(), 0 + oracle_->step());
}

TEST_F(CachedTableTest, PrefetchBringsRowsIntoMemoryAndChangesNoResult) {
  Make();
  ApplyToBoth(NewBatchOf(KeyRange(0, 100)));
  ASSERT_OK(tables_->Flush());
  Make();
  CountReads();
  Keys keys = KeyRange(0, 200);
  keys.insert(keys.end(), {7, 7, 199});
  ASSERT_OK(table_->Prefetch(keys, /*padding_key=*/3, *Executor::Inline()));
  EXPECT_EQ(num_read_, 199) << "each key once, the padding key not at all";
  EXPECT_EQ(table_->memory().num_rows, 199);
  EXPECT_EQ(table_->counters().lookup_keys, 0);
  keys.erase(keys.begin() + 3);
  EXPECT_TRUE(SameBits(Lookup(*table_, keys), Lookup(*oracle_, keys)));
  ApplyToBoth(NewBatchOf(keys));
  EXPECT_EQ(num_read_, 199);
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 200)));
}

TEST_F(CachedTableTest, PrefetchOfMoreThanThereIsRoomForDoesNoHarm) {
  Make(Small());
  ApplyToBoth(NewBatch(300, 300));
  ASSERT_OK(table_->Prefetch(KeyRange(0, 5000), std::nullopt, *Executor::Inline()));
  EXPECT_LE(tables_->memory().used_bytes(), kFewSlabs + kIndexBytes);
  ApplyToBoth(NewBatch(500, 5000));
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 5000)));
}

TEST_F(CachedTableTest, AnotherRecipeDropsInitialValuesOfTheOneBefore) {
  Make();
  ApplyToBoth(NewBatchOf(KeyRange(0, 10)));
  LookupToTrain(*table_, KeyRange(0, 20));
  const auto recipe = MakeGroupRecipe(Config("ones"), std::nullopt);
  ASSERT_OK(recipe.status());
  const auto save = [] { return Status(); };
  EXPECT_FALSE(*table_->TryChangeRecipe(*recipe, tables_->storage(), save))
      << "rows of the recipe before are not in the storage";
  ASSERT_OK(tables_->Flush());
  EXPECT_TRUE(*table_->TryChangeRecipe(*recipe, tables_->storage(), save));
  EXPECT_TRUE(*oracle_->TryChangeRecipe(*recipe, tables_->storage(), save));
  EXPECT_TRUE(SameBits(Lookup(*table_, KeyRange(0, 20)), Lookup(*oracle_, KeyRange(0, 20))));
  ApplyToBoth(NewBatchOf(KeyRange(5, 10)));
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 20)));
}

TEST_F(CachedTableTest, LookupUnderTheRecipeBeforeKeepsNoInitialValues) {
  Make();
  const auto recipe = MakeGroupRecipe(Config("ones"), std::nullopt);
  ASSERT_OK(recipe.status());
  const auto save = [] { return Status(); };
  // When a lookup reads the clock it has taken the recipe.
  clock_.at_next_reading = [&] { EXPECT_TRUE(*table_->TryChangeRecipe(*recipe, tables_->storage(), save)); };
  LookupToTrain(*table_, KeyRange(0, 10));
  EXPECT_TRUE(*oracle_->TryChangeRecipe(*recipe, tables_->storage(), save));
  ApplyToBoth(NewBatchOf(KeyRange(0, 10)));
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 10)));
}

// ---- values ----

TEST_F(CachedTableTest, RowWhoseStepWouldNotBeFiniteKeepsItsBitsAndStaysClean) {
  GroupConfig config = TableConfig(kGroup, kDim, "adagrad", "random_normal");
  Make(Foreground(), config);
  ApplyToBoth(NewBatchOf(KeyRange(0, 10)));
  ASSERT_OK(tables_->Flush());
  Batch batch = NewBatchOf(KeyRange(0, 12));
  batch.gradients[3 * kDim + 1] = 1e30F;   // its square overflows
  batch.gradients[11 * kDim + 2] = 1e30F;  // of a key that has no row
  ApplyToBoth(batch);
  EXPECT_EQ(table_->counters().skipped_rows, 2);
  EXPECT_EQ(table_->memory().num_dirty, 10);
  ApplyToBoth(NewBatchOf(KeyRange(0, 12)));
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 12)));
  ExpectRecoveryHasAll(KeyRange(0, 12));
}

TEST_F(CachedTableTest, ExpiredRowsInMemoryAreLikeThoseInTheStorage) {
  TestTables::Options options = Foreground();
  options.ttl_seconds = 10;
  Make(options);
  const Keys keys = KeyRange(0, 40);
  ApplyToBoth(NewBatchOf(KeyRange(0, 20)));
  ASSERT_OK(tables_->Flush());
  ApplyToBoth(NewBatchOf(KeyRange(20, 10)));
  clock_.now_millis += 9'999;
  ApplyToBoth(NewBatchOf(KeyRange(15, 10)));
  for (int i = 0; i < 3; ++i) {
    clock_.now_millis += 1;
    EXPECT_TRUE(SameTables(*table_, *oracle_, keys));
    EXPECT_TRUE(SameBits(Lookup(*table_, keys), Lookup(*oracle_, keys)));
    LookupOptions zeros;
    zeros.missing = MissingRow::kZeros;
    EXPECT_TRUE(SameBits(Lookup(*table_, keys, zeros), Lookup(*oracle_, keys, zeros)));
  }
  ApplyToBoth(NewBatchOf(KeyRange(10, 25)));
  EXPECT_TRUE(SameTables(*table_, *oracle_, keys));
  ExpectRecoveryHasAll(keys);
  ASSERT_OK(tables_->Flush());
  ExpectStorageHasAll(keys);
}

// ---- what goes wrong ----

// Fails the n-th call of a hook.
template <typename... Args>
std::function<Status(Args...)> FailAt(int n, const char* message) {
  const auto calls = std::make_shared<std::atomic<int>>(0);
  return [=](Args...) { return (*calls)++ == n ? IoError(message) : Status(); };
}

TEST_F(CachedTableTest, FailedReadAmongManyIsTakenBack) {
  Make();
  const Keys keys = KeyRange(0, 2000);  // several blocks, each a read
  ApplyToBoth(NewBatchOf(keys));
  ASSERT_OK(tables_->Flush());
  ThreadPool pool(3);
  for (int n = 0; n < 4; ++n) {
    Make();
    const Batch batch = NewBatchOf(KeyRange(500, 2000));
    tables_->storage().before_read = FailAt<Span<const uint64_t>>(n, "a bad block");
    const auto failed = table_->ApplyGradients(batch.keys, batch.gradients, {}, pool);
    ASSERT_TRUE(FailsWith(failed.status(), StatusCode::kIoError, "a bad block")) << n;
    EXPECT_EQ(table_->memory().num_rows, 0) << "what had been read and what had not";
    EXPECT_EQ(table_->step(), oracle_->step());
    tables_->storage().before_read = FailAt<Span<const uint64_t>>(n, "a bad block");
    Floats weights(batch.gradients.size());
    LookupOptions training;
    training.training = true;
    EXPECT_FALSE(table_->Lookup(batch.keys, training, pool, weights).ok());
    EXPECT_EQ(table_->memory().num_rows, 0);

    tables_->storage().before_read = nullptr;
    ApplyToBoth(batch);
    EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 2500)));
    ASSERT_OK(tables_->Flush());
  }
}

TEST_F(CachedTableTest, FailedAppendIsTakenBack) {
  Make();
  ApplyToBoth(NewBatchOf(KeyRange(0, 100)));
  ASSERT_OK(tables_->Flush());
  tables_->log_files().full = true;
  const Batch batch = NewBatchOf(KeyRange(50, 100));
  EXPECT_TRUE(FailsWith(TryApply(*table_, batch).status(), StatusCode::kIoError, "No space left"));
  EXPECT_EQ(table_->memory().num_dirty, 0);
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 200)));
  tables_->log_files().full = false;
  ApplyToBoth(batch);
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 200)));
  ExpectRecoveryHasAll(KeyRange(0, 200));
}

TEST_F(CachedTableTest, FailedAppendOfABatchLargerThanTheCacheIsTakenBack) {
  Make(Small());
  ApplyToBoth(NewBatch(300, 300));
  tables_->log_files().full = true;
  const Batch batch = NewBatchOf(KeyRange(0, 3000));
  EXPECT_TRUE(FailsWith(TryApply(*table_, batch).status(), StatusCode::kIoError, "No space left"));
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 3000)));
  tables_->log_files().full = false;
  ApplyToBoth(batch);
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 3000)));
}

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
