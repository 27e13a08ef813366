// SPDX-License-Identifier: Apache-2.0
//
// What sets a CachedTable apart from a DirectTable, its oracle: rows stay in memory, make room for others,
// come to the storage later, and survive what goes wrong on the way.
#include "damo/table/cached_table.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>

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

TEST_P(DurabilityTest, CallThatFitsIsLoggedUnlessAFlushIsAllThatSurvives) {
  TestTables::Options options = Foreground();
  options.durability = GetParam();
  Make(options);
  for (int step = 0; step < 3; ++step) {
    const uint64_t before = tables_->log().bytes();
    ApplyToBoth(NewBatch(100, 50));
    EXPECT_EQ(tables_->log().bytes() > before, GetParam() != Durability::kCheckpoint);
  }
  if (GetParam() == Durability::kCheckpoint) {
    EXPECT_EQ(tables_->log().bytes(), 0U);
  }
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

// Counts how often it is asked for threads.
class CountingExecutor final : public Executor {
 public:
  void ParallelFor(int64_t total, int64_t min_block, const Block& block) override {
    ++num_calls;
    Executor::Inline()->ParallelFor(total, min_block, block);
  }
  int num_calls = 0;
};

TEST_F(CachedTableTest, PrefetchTakesThreadsToReadOnly) {
  Make();
  ApplyToBoth(NewBatchOf(KeyRange(0, 500)));
  ASSERT_OK(tables_->Flush());
  Make();
  CountingExecutor executor;
  ASSERT_OK(table_->Prefetch(KeyRange(0, 500), std::nullopt, executor));
  EXPECT_EQ(executor.num_calls, 1);
  CountReads();
  ASSERT_OK(table_->Prefetch(KeyRange(0, 500), std::nullopt, executor));
  EXPECT_EQ(num_read_, 0) << "all are in memory";
  EXPECT_EQ(executor.num_calls, 1);
}

// HashKey() backwards.
uint64_t KeyOfHash(uint64_t hash) {
  const auto undo_shift = [](uint64_t x, int bits) {
    uint64_t y = x;
    for (int known = bits; known < 64; known += bits) y = x ^ (y >> bits);
    return y;
  };
  const auto inverse = [](uint64_t odd) {
    uint64_t x = odd;  // right in three bits, with each round in twice as many
    for (int i = 0; i < 5; ++i) x *= 2 - odd * x;
    return x;
  };
  hash = undo_shift(hash, 31) * inverse(0x94d049bb133111ebULL);
  hash = undo_shift(hash, 27) * inverse(0xbf58476d1ce4e5b9ULL);
  return undo_shift(hash, 30);
}

TEST_F(CachedTableTest, KeyThatPrefetchTakesForOneInMemoryIsReadByTheLookup) {
  const uint64_t hash = HashKey(7);
  const Keys keys{7, KeyOfHash(hash ^ (uint64_t{1} << 32))};  // of one shard, with one tag
  ASSERT_EQ(TagOf(HashKey(keys[1])), TagOf(hash));
  ASSERT_NE(keys[1], keys[0]);
  Make();
  ApplyToBoth(NewBatchOf(keys));
  ASSERT_OK(tables_->Flush());
  Make();
  ASSERT_OK(table_->Prefetch({keys.data(), 1}, std::nullopt, *Executor::Inline()));
  CountReads();
  ASSERT_OK(table_->Prefetch(keys, std::nullopt, *Executor::Inline()));
  EXPECT_EQ(num_read_, 0);
  EXPECT_TRUE(SameBits(LookupToTrain(*table_, keys), Lookup(*oracle_, keys)));
  EXPECT_EQ(num_read_, 1);
  ApplyToBoth(NewBatchOf(keys));
  EXPECT_TRUE(SameTables(*table_, *oracle_, keys));
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

}  // namespace
}  // namespace damo
