// SPDX-License-Identifier: Apache-2.0
//
// Time to live, from a store's options to RocksDB's files; and the clock of events.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_process.h"
#include "damo/base/test_status.h"
#include "damo/storage/rocksdb_storage.h"
#include "damo/table/store.h"
#include "damo/table/test_tables.h"

namespace damo {
namespace {

constexpr int64_t kStart = 1'000'000'000;

GroupConfig Config(int group, std::optional<int64_t> ttl_seconds = std::nullopt) {
  GroupConfig config = TableConfig(group, 2, "sgd", "zeros");
  config.ttl_seconds = ttl_seconds;
  return config;
}

Batch OnesFor(const Keys& keys) { return {keys, Floats(keys.size() * 2, 1.0f)}; }

StatusOr<std::unique_ptr<Store>> OpenStore(const std::string& path, const StoreOptions& options,
                                           const Clock* clock) {
  RocksDbStorageOptions storage_options;
  storage_options.memory_budget = 4 << 20;
  storage_options.memtable_bytes = 64 << 10;
  storage_options.durability = Durability::kSync;
  storage_options.read_only = options.read_only.value_or(false);
  DAMO_ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenRocksDbStorage(path, storage_options));
  return Store::Open(path, options, std::move(storage), clock);
}

// With and without row cache.
class StoreExpireTest : public testing::TestWithParam<bool> {
 protected:
  StoreOptions Options(std::optional<int64_t> ttl_seconds = std::nullopt) const {
    StoreOptions options;
    options.row_cache = GetParam();
    options.ttl_seconds = ttl_seconds;
    return options;
  }
  void Open(const StoreOptions& options) {
    store_.reset();
    StatusOr<std::unique_ptr<Store>> store = OpenStore(path_, options, &clock_);
    ASSERT_OK(store.status());
    store_ = std::move(*store);
  }
  // The group's table, which becomes as `config` says.
  EmbeddingTable& Add(const GroupConfig& config) {
    const auto table = store_->AddGroup(config);
    EXPECT_TRUE(IsOk(table.status()));
    return **table;
  }
  int64_t Size(int group) const {
    const StatusOr<int64_t> size = (*store_->Table(group))->Size();
    EXPECT_TRUE(IsOk(size.status()));
    return *size;
  }
  // Rows of a group in the files, expired or not.
  int64_t NumStored(int group) const {
    const auto snapshot = store_->TakeSnapshot();
    EXPECT_TRUE(IsOk(snapshot.status()));
    int64_t num_rows = 0;
    EXPECT_TRUE(IsOk((*snapshot)->Scan(group, [&](uint64_t /*key*/, std::string_view /*row*/) {
      ++num_rows;
      return Status();
    })));
    return num_rows;
  }
  int64_t Expire() {
    const StatusOr<int64_t> num_removed = store_->Expire();
    EXPECT_TRUE(IsOk(num_removed.status()));
    return num_removed.ok() ? *num_removed : -1;
  }

  const TestDirectory directory_;
  const std::string path_ = directory_ / "store";
  FakeClock clock_{kStart};
  std::unique_ptr<Store> store_;
};

INSTANTIATE_TEST_SUITE_P(Kinds, StoreExpireTest, testing::Bool(),
                         [](const auto& info) { return std::string(info.param ? "Cached" : "Direct"); });

// ---- time to live of a group ----

TEST_P(StoreExpireTest, GroupOverridesTheTimeToLiveOfTheStore) {
  Open(Options(100));
  for (const auto& config : {Config(0), Config(1, 10), Config(2, GroupConfig::kNeverExpires)}) {
    Apply(Add(config), OnesFor({7}));
  }
  clock_.AdvanceMillis(10'000);
  EXPECT_EQ((std::vector<int64_t>{Size(0), Size(1), Size(2)}), (std::vector<int64_t>{1, 0, 1}));
  clock_.AdvanceMillis(90'000);
  EXPECT_EQ((std::vector<int64_t>{Size(0), Size(1), Size(2)}), (std::vector<int64_t>{0, 0, 1}));
  EXPECT_FALSE((*store_->Table(1))->GetRow(7)->has_value());
  Apply(Add(Config(1, 10)), OnesFor({7}));  // begins anew
  EXPECT_EQ((*(*store_->Table(1))->GetRow(7))->header.update_num, 1);
  Apply(Add(Config(2, GroupConfig::kNeverExpires)), OnesFor({7}));
  EXPECT_EQ((*(*store_->Table(2))->GetRow(7))->header.update_num, 2);
}

TEST_P(StoreExpireTest, TimeToLiveOfAGroupIsKeptAndMayChangeWhenReopening) {
  Open(Options());
  Apply(Add(Config(1, 100)), OnesFor({7}));
  EXPECT_TRUE(FailsWith(store_->AddGroup(Config(1, 50)).status(), StatusCode::kInvalidArgument,
                        "has ttl_seconds 100, asked for 50"));
  clock_.AdvanceMillis(60'000);
  Open(Options());
  EXPECT_EQ(Size(1), 1);
  Add(Config(1, 50));  // lowered: applies to the row that stands
  EXPECT_EQ(Size(1), 0);
  Open(Options());
  EXPECT_EQ(Size(1), 0) << "kept with the store";
}

TEST_P(StoreExpireTest, ReopeningWithoutATimeToLiveKeepsTheRows) {
  Open(Options(10));
  Apply(Add(Config(1)), OnesFor({7, 8}));
  clock_.AdvanceMillis(5'000);
  Apply(Add(Config(1)), OnesFor({8}));
  ASSERT_OK(store_->Flush());
  clock_.AdvanceMillis(20'000);
  EXPECT_EQ(Size(1), 0);
  StoreOptions options = Options();
  Open(options);  // before the store has compacted anything
  Add(Config(1));
  EXPECT_EQ(Size(1), 2);
  EXPECT_EQ(Expire(), 0);
  EXPECT_EQ((*(*store_->Table(1))->GetRow(8))->header.update_num, 2);
}

// ---- space ----

TEST_P(StoreExpireTest, CompactionDropsExpiredRowsAndSizeStaysRight) {
  Open(Options(10));
  EmbeddingTable& table = Add(Config(1));
  Apply(table, OnesFor(KeyRange(0, 1000)));
  ASSERT_OK(store_->Flush());
  clock_.AdvanceMillis(9'999);
  Apply(table, OnesFor(KeyRange(0, 100)));
  clock_.AdvanceMillis(1);
  EXPECT_EQ(Size(1), 100);
  ASSERT_OK(store_->Flush());
  ASSERT_OK(store_->Compact());
  EXPECT_EQ(NumStored(1), 100);
  EXPECT_EQ(Size(1), 100);
  Open(Options());  // without a time to live rows are counted, too
  EXPECT_EQ(Size(1), 100);
  Apply(Add(Config(1)), OnesFor(KeyRange(50, 100)));
  EXPECT_EQ(Size(1), 150);
}

TEST_P(StoreExpireTest, SnapshotKeepsRowsThatExpireWhileItStands) {
  Open(Options(10));
  Apply(Add(Config(1)), OnesFor(KeyRange(0, 100)));
  {
    const auto snapshot = store_->TakeSnapshot();
    ASSERT_OK(snapshot.status());
    clock_.AdvanceMillis(10'000);
    ASSERT_OK(store_->Flush());
    ASSERT_OK(store_->Compact());
    int64_t num_rows = 0;
    ASSERT_OK((*snapshot)->Scan(1, [&](uint64_t /*key*/, std::string_view /*row*/) {
      ++num_rows;
      return Status();
    }));
    EXPECT_EQ(num_rows, 100);
  }
  ASSERT_OK(store_->Flush());
  ASSERT_OK(store_->Compact());
  EXPECT_EQ(NumStored(1), 0);
}

TEST_P(StoreExpireTest, CompactionLeavesRowsOfGroupsThatMayStillChange) {
  Open(Options());
  Apply(Add(Config(1, 10)), OnesFor(KeyRange(0, 100)));
  clock_.AdvanceMillis(20'000);
  Open(Options());  // nobody has asked for the group yet: it may be given more time
  ASSERT_OK(store_->Flush());
  ASSERT_OK(store_->Compact());
  EXPECT_EQ(NumStored(1), 100);
  Add(Config(1, 30));
  EXPECT_EQ(Size(1), 100);
}

TEST_P(StoreExpireTest, ExpireRemovesExpiredRowsAndCountsThem) {
  Open(Options(10));
  EmbeddingTable& table = Add(Config(1));
  Apply(Add(Config(2, GroupConfig::kNeverExpires)), OnesFor(KeyRange(0, 50)));
  constexpr int64_t kNumRows = Store::kExpirePartRows + 1000;  // more than are removed at once
  Apply(table, OnesFor(KeyRange(0, kNumRows)));
  ASSERT_OK(store_->Flush());
  Apply(table, OnesFor(KeyRange(kNumRows, 10)));  // expires in memory
  clock_.AdvanceMillis(9'999);
  Apply(table, OnesFor(KeyRange(100, 100)));
  EXPECT_EQ(Expire(), 0);
  clock_.AdvanceMillis(1);
  EXPECT_EQ(Expire(), kNumRows + 10 - 100);
  EXPECT_EQ(Expire(), 0);
  EXPECT_EQ(NumStored(1), 100);
  EXPECT_EQ(Size(1), 100);
  EXPECT_EQ(Size(2), 50);
  EXPECT_EQ(table.num_rows(), 100);
  Apply(table, OnesFor({0, 100}));
  EXPECT_EQ((*table.GetRow(0))->header.update_num, 1);
  EXPECT_EQ((*table.GetRow(100))->header.update_num, 3);
  Open(Options(10));
  EXPECT_EQ(Size(1), 101);
}

TEST_P(StoreExpireTest, ExpireFindsRowsThatLieFarApart) {
  Open(Options(10));
  EmbeddingTable& table = Add(Config(1));
  Apply(table, OnesFor(KeyRange(0, 2'000)));
  clock_.AdvanceMillis(9'999);
  std::vector<uint64_t> spared;  // between those that expire: runs of 1, 2, 3, ... rows
  std::vector<uint64_t> expired;
  for (uint64_t key = 0, run = 1; key < 2'000; key += ++run) {
    expired.push_back(key);
    for (uint64_t i = key + 1; i < std::min<uint64_t>(key + 1 + run, 2'000); ++i) spared.push_back(i);
  }
  Apply(table, OnesFor(spared));
  clock_.AdvanceMillis(1);
  EXPECT_EQ(Expire(), static_cast<int64_t>(expired.size()));
  for (const uint64_t key : expired) EXPECT_FALSE((*table.GetRow(key)).has_value()) << key;
  EXPECT_EQ(Size(1), static_cast<int64_t>(spared.size()));
}

TEST_P(StoreExpireTest, ExpireSparesRowsThatAreUpdatedAfterTheyWereFound) {
  Open(Options(10));
  EmbeddingTable& table = Add(Config(1));
  constexpr int64_t kNumRows = Store::kExpirePartRows + 1000;
  Apply(table, OnesFor(KeyRange(0, kNumRows)));
  clock_.AdvanceMillis(10'000);
  int64_t num_reports = 0;
  const auto update_one = [&](const Store::ExpireProgress& done) {
    // After the first part: of the second one, too, all rows have been expired when the pass began.
    if (num_reports++ == 0) {
      EXPECT_EQ(done.rows_removed, Store::kExpirePartRows);
      Apply(table, OnesFor({0, kNumRows - 1}));
    }
    return Status();
  };
  const StatusOr<int64_t> num_removed = store_->Expire(update_one);
  ASSERT_OK(num_removed.status());
  EXPECT_EQ(*num_removed, kNumRows - 1);
  EXPECT_EQ(Size(1), 2);
}

TEST_P(StoreExpireTest, ExpireReportsAndEndsWhenToldSo) {
  Open(Options(10));
  EmbeddingTable& table = Add(Config(1));
  constexpr int64_t kTwoParts = 2 * Store::kExpirePartRows;
  for (int64_t i = 0; i < 4; ++i) Apply(table, OnesFor(KeyRange(i * kTwoParts / 4, kTwoParts / 4)));
  Apply(table, OnesFor(KeyRange(kTwoParts, 1000)));
  clock_.AdvanceMillis(10'000);
  int64_t num_reports = 0;
  const auto stop_at_second = [&](const Store::ExpireProgress& done) {
    EXPECT_EQ(done.rows_removed, Store::kExpirePartRows * ++num_reports);
    EXPECT_EQ(done.rows_scanned, done.rows_removed);
    return num_reports == 2 ? FailedPrecondition("enough") : Status();
  };
  EXPECT_TRUE(FailsWith(store_->Expire(stop_at_second).status(), StatusCode::kFailedPrecondition,
                        "remove expired rows of store '" + path_ + "': enough"));
  EXPECT_EQ(NumStored(1), 1000);
  EXPECT_EQ(Expire(), 1000);
}

TEST_P(StoreExpireTest, ReadOnlyStoreDoesNotExpireAndReadsAsItsOwnTimeToLiveSays) {
  Open(Options());
  Apply(Add(Config(1)), OnesFor({7}));
  ASSERT_OK(store_->Flush());
  clock_.AdvanceMillis(10'000);
  StoreOptions options = Options(10);
  options.read_only = true;
  const StatusOr<std::unique_ptr<Store>> reader = OpenStore(path_, options, &clock_);
  ASSERT_OK(reader.status());
  EXPECT_EQ(*(*reader)->Size(), 0);
  EXPECT_TRUE(FailsWith((*reader)->Expire().status(), StatusCode::kFailedPrecondition, "opened read-only"));
  EXPECT_EQ(Size(1), 1);
}

// ---- the clock of events ----

StoreOptions WithEventClock(StoreOptions options) {
  options.clock = ClockKind::kEvent;
  return options;
}

TEST_P(StoreExpireTest, EventsAreTheTime) {
  Open(WithEventClock(Options(10)));
  EXPECT_EQ(store_->options().clock, ClockKind::kEvent);
  EXPECT_EQ(store_->NowMillis(), 0);
  EmbeddingTable& table = Add(Config(1));
  ASSERT_OK(store_->AdvanceClock(5'000));
  Apply(table, OnesFor({7}));
  clock_.AdvanceMillis(1'000'000);  // the machine's: nobody asks it
  EXPECT_EQ((*table.GetRow(7))->header.update_time, 5'000);
  ASSERT_OK(store_->AdvanceClock(14'999));
  ASSERT_OK(store_->AdvanceClock(3'000));  // an event that comes late
  EXPECT_EQ(store_->NowMillis(), 14'999);
  EXPECT_EQ(Size(1), 1);
  ASSERT_OK(store_->AdvanceClock(15'000));
  EXPECT_EQ(Size(1), 0);
  EXPECT_EQ(Expire(), 1);
}

TEST_P(StoreExpireTest, TimeOfEventsIsKeptWhenClosingAndWithAFlush) {
  Open(WithEventClock(Options()));
  ASSERT_OK(store_->AdvanceClock(5'000));
  Open(Options());  // the store's own
  EXPECT_EQ(store_->options().clock, ClockKind::kEvent);
  EXPECT_EQ(store_->NowMillis(), 5'000);
  ASSERT_OK(store_->AdvanceClock(6'000));
  ASSERT_OK(store_->Flush());
  StoreOptions options = Options();
  options.read_only = true;
  const StatusOr<std::unique_ptr<Store>> reader = OpenStore(path_, options, &clock_);
  ASSERT_OK(reader.status());
  EXPECT_EQ((*reader)->NowMillis(), 6'000);
  EXPECT_TRUE(FailsWith((*reader)->AdvanceClock(7'000), StatusCode::kFailedPrecondition, "read-only"));
}

TEST_P(StoreExpireTest, ClockIsFixedAtCreation) {
  Open(Options());
  EXPECT_TRUE(
      FailsWith(store_->AdvanceClock(5'000), StatusCode::kFailedPrecondition,
                "advance the clock of store '" + path_ +
                    "': the clock of the store is 'system'; only a store created with clock 'event' is "
                    "told the time"));
  store_.reset();
  EXPECT_TRUE(FailsWith(OpenStore(path_, WithEventClock(Options()), &clock_).status(),
                        StatusCode::kInvalidArgument, "has clock 'system', asked for 'event'"));
}

TEST_P(StoreExpireTest, RestoreTakesTheTimeOfEventsBackAndRowsToLife) {
  Open(WithEventClock(Options(10)));
  EmbeddingTable& table = Add(Config(1));
  ASSERT_OK(store_->AdvanceClock(5'000));
  Apply(table, OnesFor(KeyRange(0, 100)));
  ASSERT_OK(store_->Checkpoint(directory_ / "checkpoint"));
  ASSERT_OK(store_->AdvanceClock(20'000));
  ASSERT_OK(store_->Flush());  // releases them
  EXPECT_EQ(Size(1), 0);
  ASSERT_OK(store_->Restore({directory_ / "checkpoint"}));
  EXPECT_EQ(store_->NowMillis(), 5'000);
  ASSERT_OK(store_->Compact());
  EXPECT_EQ(NumStored(1), 100);
  EXPECT_EQ(Size(1), 100);
  ASSERT_OK(store_->AdvanceClock(20'000));
  EXPECT_EQ(Expire(), 100);
}

TEST_P(StoreExpireTest, CheckpointsHaveTheTimeOfTheLastEvent) {
  Open(WithEventClock(Options()));
  Apply(Add(Config(1)), OnesFor({7}));
  ASSERT_OK(store_->AdvanceClock(5'000));
  ASSERT_OK(store_->Checkpoint(directory_ / "full"));
  ASSERT_OK(store_->AdvanceClock(6'000));
  ASSERT_OK(store_->CheckpointDelta(directory_ / "delta", directory_ / "full"));
  ASSERT_OK(store_->AdvanceClock(9'000));
  ASSERT_OK(store_->Restore({directory_ / "delta"}));
  EXPECT_EQ(store_->NowMillis(), 6'000);
  ASSERT_OK(store_->Restore({directory_ / "full"}));
  EXPECT_EQ(store_->NowMillis(), 5'000);
}

TEST_P(StoreExpireTest, RestoreFromAStoreWithAnotherClockIsRefused) {
  Open(Options());
  ASSERT_OK(store_->Checkpoint(directory_ / "checkpoint"));
  store_.reset();
  const StatusOr<std::unique_ptr<Store>> other =
      OpenStore(directory_ / "other", WithEventClock(Options()), &clock_);
  ASSERT_OK(other.status());
  EXPECT_TRUE(FailsWith((*other)->Restore({directory_ / "checkpoint"}), StatusCode::kInvalidArgument,
                        "the checkpoint has clock 'system', the store has 'event'"));
}

TEST_P(StoreExpireTest, TimesThatCannotBeMillisecondsAreRefused) {
  Open(WithEventClock(Options()));
  for (const int64_t millis : {int64_t{-1}, Store::kMaxEventMillis + 1}) {
    EXPECT_EQ(
        store_->AdvanceClock(millis).message(),
        StrCat("advance the clock of store '", path_, "': `milliseconds` must be in [0, 253402300799999], ",
               "milliseconds since 1970. Received: milliseconds=", millis));
  }
  EXPECT_EQ(store_->NowMillis(), 0);
  ASSERT_OK(store_->AdvanceClock(Store::kMaxEventMillis));
}

// Trains by the clock of events and dies with the store open; reports nothing if all went well.
std::string TrainAndDie(const std::string& path) {
  StoreOptions options;
  options.clock = ClockKind::kEvent;
  options.ttl_seconds = 10;
  StatusOr<std::unique_ptr<Store>> store = OpenStore(path, options, Clock::System());
  if (!store.ok()) return store.status().ToString();
  const auto train = [&]() -> Status {
    DAMO_ASSIGN_OR_RETURN(const std::shared_ptr<EmbeddingTable> table, (*store)->AddGroup(Config(1)));
    for (const int64_t second : {1, 5, 12}) {
      DAMO_RETURN_IF_ERROR((*store)->AdvanceClock(second * 1000));
      DAMO_RETURN_IF_ERROR(TryApply(*table, OnesFor({static_cast<uint64_t>(second), 99})).status());
      if (second == 5) DAMO_RETURN_IF_ERROR((*store)->Flush());
    }
    return (*store)->AdvanceClock(13'000);  // no apply call follows: it goes with the process
  };
  const Status status = train();
  (void)store->release();  // never closed
  return status.ok() ? "trained" : status.ToString();
}

TEST(EventClockTest, SurvivesTheDeathOfTheProcessWithTheLastApplyCall) {
  const TestDirectory directory;
  const std::string path = directory / "store";
  ASSERT_EQ(RunInFreshProcess(TrainAndDie, path), "trained");
  StoreOptions options;
  options.ttl_seconds = 10;
  const StatusOr<std::unique_ptr<Store>> store = OpenStore(path, options, Clock::System());
  ASSERT_OK(store.status());
  EXPECT_EQ((*store)->NowMillis(), 12'000);
  const auto table = (*store)->Table(1);
  ASSERT_OK(table.status());
  EXPECT_FALSE((*table)->GetRow(1)->has_value()) << "expired at 11 seconds";
  EXPECT_EQ((*(*table)->GetRow(5))->header.update_time, 5'000);
  EXPECT_EQ((*(*table)->GetRow(99))->header.update_num, 3);
  EXPECT_EQ((*(*table)->GetRow(99))->header.update_time, 12'000);
}

}  // namespace
}  // namespace damo
