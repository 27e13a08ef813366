// SPDX-License-Identifier: Apache-2.0
//
// A CachedTable's filter of keys without a row: as exact as the oracle's, whatever is evicted, flushed or
// lost.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "damo/config/store_options.h"
#include "damo/table/test_cached_table.h"

namespace damo {
namespace {

class CachedFilterTest : public CachedTableTest, public testing::WithParamInterface<Durability> {};

INSTANTIATE_TEST_SUITE_P(Modes, CachedFilterTest,
                         testing::Values(Durability::kWal, Durability::kSync, Durability::kCheckpoint),
                         [](const auto& info) { return std::string(DurabilityName(info.param)); });

TEST_P(CachedFilterTest, FilterIsTheOraclesWhateverTheSizeOfBatchesAndCache) {
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

}  // namespace
}  // namespace damo
