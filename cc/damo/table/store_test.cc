// SPDX-License-Identifier: Apache-2.0
#include "damo/table/store.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "damo/base/endian.h"
#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/storage/memory_storage.h"
#include "damo/storage/rocksdb_storage.h"

namespace damo {
namespace {

GroupConfig Config(int group, int64_t dim = 2, const std::string& optimizer = "sgd", double gamma = 1.0) {
  GroupConfig config;
  config.group = group;
  config.dim = dim;
  config.optimizer = Parameters(optimizer);
  config.optimizer.Insert("gamma", gamma);
  config.initializer = Parameters("zeros");
  return config;
}

class StoreTest : public testing::Test {
 protected:
  StatusOr<std::unique_ptr<Storage>> TryOpenStorage(const StoreOptions& options) const {
    RocksDbStorageOptions storage_options;
    storage_options.memory_budget = 8 << 20;
    storage_options.read_only = options.read_only.value_or(false);
    return OpenRocksDbStorage(path_, storage_options);
  }
  StatusOr<std::unique_ptr<Store>> TryOpen(const StoreOptions& options = {}) const {
    DAMO_ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, TryOpenStorage(options));
    return Store::Open(path_, options, std::move(storage), Clock::System());
  }
  void Open(const StoreOptions& options = {}) {
    store_.reset();
    StatusOr<std::unique_ptr<Store>> store = TryOpen(options);
    ASSERT_OK(store.status());
    store_ = std::move(*store);
  }
  // Puts a value into the manifest behind the store's back.
  void OverwriteManifest(const std::string& name, const std::string& value) {
    store_.reset();
    StatusOr<std::unique_ptr<Storage>> storage = OpenRocksDbStorage(path_, RocksDbStorageOptions());
    ASSERT_OK(storage.status());
    const std::unique_ptr<StorageBatch> batch = (*storage)->NewBatch();
    ASSERT_OK(batch->PutManifest(name, value));
    ASSERT_OK((*storage)->Write(*batch));
    ASSERT_OK((*storage)->Close());
  }
  void Apply(int group, uint64_t key) {
    const auto table = store_->Table(group);
    ASSERT_OK(table.status());
    const std::vector<float> gradient((*table)->dim(), 1.0f);
    ASSERT_OK(
        (*table)->ApplyGradients(Span<const uint64_t>(&key, 1), gradient, {}, *Executor::Inline()).status());
  }

  TestDirectory directory_;
  const std::string path_ = directory_ / "store";
  std::unique_ptr<Store> store_;
};

TEST_F(StoreTest, NewStoreHasDefaultsFilledIn) {
  Open();
  EXPECT_EQ(store_->options().seed, 0);
  EXPECT_EQ(store_->options().durability, Durability::kWal);
  EXPECT_EQ(store_->options().memory_budget, StoreOptions::kDefaultMemoryBudget);
  EXPECT_EQ(store_->options().read_only, false);
  EXPECT_FALSE(store_->options().ttl_seconds.has_value());
}

TEST_F(StoreTest, GroupsAreIsolated) {
  Open();
  ASSERT_OK(store_->AddGroup(Config(0)).status());
  ASSERT_OK(store_->AddGroup(Config(255, 3)).status());
  Apply(0, 7);
  EXPECT_EQ(*(*store_->Table(0))->Size(), 1);
  EXPECT_EQ(*(*store_->Table(255))->Size(), 0);
  EXPECT_EQ(*store_->Size(), 1);
  EXPECT_EQ((*store_->Table(255))->step(), 0);
}

TEST_F(StoreTest, AddingAGroupAgainIsIdempotentIfEqual) {
  Open();
  const auto first = store_->AddGroup(Config(1));
  GroupConfig spelled_out = Config(1);
  spelled_out.optimizer.Insert("lambda", 0.0);  // the default
  const auto second = store_->AddGroup(spelled_out);
  ASSERT_OK(second.status());
  EXPECT_EQ(*first, *second);
}

TEST_F(StoreTest, AddingAGroupWithOtherSettingsFailsWithBothValues) {
  Open();
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  EXPECT_EQ(store_->AddGroup(Config(1, 3)).status().message(),
            "add group 1 to store '" + path_ + "': has dim 2, asked for 3");
  const Status gamma = store_->AddGroup(Config(1, 2, "sgd", 0.5)).status();
  EXPECT_EQ(gamma.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(gamma.message().find(R"("gamma":0.5)"), std::string::npos) << gamma.message();
}

TEST_F(StoreTest, ReopenedGroupKeepsDimAndOptimizerButTakesOtherSettings) {
  Open();
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  Apply(1, 7);
  Open();
  EXPECT_EQ(*store_->Size(), 1);
  EXPECT_NE(store_->AddGroup(Config(1, 3)).status().message().find("has dim 2, asked for 3"),
            std::string::npos);
  EXPECT_NE(store_->AddGroup(Config(1, 2, "adagrad"))
                .status()
                .message()
                .find("has optimizer 'sgd', asked for 'adagrad'"),
            std::string::npos);
  ASSERT_OK(store_->AddGroup(Config(1, 2, "sgd", 0.5)).status());
  Apply(1, 7);
  EXPECT_EQ((*(*store_->Table(1))->GetRow(7))->weights, (std::vector<float>{-1.5f, -1.5f}));
  EXPECT_EQ((*store_->Table(1))->step(), 2);
  Open();
  EXPECT_EQ((*store_->Table(1))->recipe()->optimizer->learning_rate(), 0.5);
}

// ---- admission ----

GroupConfig FilteredConfig(int group, int64_t min_count) {
  GroupConfig config = Config(group);
  config.min_count = min_count;
  return config;
}

TEST_F(StoreTest, FilterIsSizedByTheMemoryBudgetUnlessAskedFor) {
  const auto capacity = [this](int64_t memory_budget, const GroupConfig& config) {
    StoreOptions options;
    options.memory_budget = memory_budget;
    const TestDirectory directory;
    RocksDbStorageOptions storage_options;
    storage_options.memory_budget = 8 << 20;
    auto storage = OpenRocksDbStorage(directory / "store", storage_options);
    EXPECT_TRUE(IsOk(storage.status()));
    const auto store = Store::Open(directory / "store", options, std::move(*storage), Clock::System());
    EXPECT_TRUE(IsOk(store.status()));
    const auto table = (*store)->AddGroup(config);
    EXPECT_TRUE(IsOk(table.status()));
    return (*table)->recipe()->config.filter_capacity.value_or(0);
  };
  EXPECT_EQ(capacity(int64_t{1} << 30, FilteredConfig(0, 2)), 1 << 20);
  EXPECT_EQ(capacity(93 << 20, FilteredConfig(0, 2)), 1 << 20);
  EXPECT_EQ(capacity(64 << 20, FilteredConfig(0, 2)), 1 << 19);
  EXPECT_EQ(capacity(4 << 20, FilteredConfig(0, 2)), 1 << 14);
  EXPECT_EQ(capacity(4 << 20, Config(0)), 0) << "no min_count, no filter";
  GroupConfig asked = FilteredConfig(0, 2);
  asked.filter_capacity = 12345;
  EXPECT_EQ(capacity(4 << 20, asked), 12345);
}

TEST_F(StoreTest, FilterThatLeavesTooLittleToRowsIsRefused) {
  Open();
  GroupConfig config = FilteredConfig(1, 2);
  config.filter_capacity = int64_t{1} << 28;
  const Status status = store_->AddGroup(config).status();
  EXPECT_TRUE(
      FailsWith(status, StatusCode::kInvalidArgument,
                "a filter with filter_capacity=268435456 and filter_fpr=0.001 takes 1929728000 bytes"));
  EXPECT_TRUE(FailsWith(status, StatusCode::kInvalidArgument,
                        "memory_budget=1073741824 leaves 402653184 to them: ask for"));
  EXPECT_EQ(store_->Table(1).status().code(), StatusCode::kNotFound);
  config.filter_capacity = int64_t{1} << 25;
  ASSERT_OK(store_->AddGroup(config).status());
  config.group = 2;
  EXPECT_TRUE(
      FailsWith(store_->AddGroup(config).status(), StatusCode::kInvalidArgument, "those of all groups"));
}

TEST_F(StoreTest, MinCountMayChangeWhenReopeningAndTheSizeOfTheFilterMayNot) {
  Open();
  GroupConfig config = FilteredConfig(1, 3);
  config.filter_capacity = 5000;
  ASSERT_OK(store_->AddGroup(config).status());
  EXPECT_TRUE(FailsWith(store_->AddGroup(FilteredConfig(1, 2)).status(), StatusCode::kInvalidArgument,
                        "has min_count 3, asked for 2"));
  EXPECT_TRUE(FailsWith(store_->AddGroup(Config(1)).status(), StatusCode::kInvalidArgument,
                        "has min_count 3, asked for 0"));
  ASSERT_OK(store_->AddGroup(FilteredConfig(1, 3)).status());  // its size as it stands
  Apply(1, 7);
  Apply(1, 8);
  EXPECT_EQ(*store_->Size(), 0);

  Open();
  config.filter_capacity = 6000;
  EXPECT_TRUE(FailsWith(store_->AddGroup(config).status(), StatusCode::kInvalidArgument,
                        "has filter_capacity 5000, asked for 6000"));
  ASSERT_OK(store_->AddGroup(FilteredConfig(1, 2)).status());
  Apply(1, 7);  // its second occurrence
  EXPECT_EQ(*store_->Size(), 1);

  Open();
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  Apply(1, 9);  // at once, and not counted
  EXPECT_EQ(*store_->Size(), 2);

  Open();
  ASSERT_OK(store_->AddGroup(FilteredConfig(1, 2)).status());
  Apply(1, 10);
  EXPECT_EQ(*store_->Size(), 2);
  Apply(1, 8);  // what was counted before stands
  EXPECT_EQ(*store_->Size(), 3);
  EXPECT_EQ((*store_->Table(1))->recipe()->config.filter_capacity, 5000);
}

TEST_F(StoreTest, GroupFromBeforeThereWereFiltersTakesAMinCount) {
  Open();
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  Apply(1, 7);
  Open();
  ASSERT_OK(store_->AddGroup(FilteredConfig(1, 2)).status());
  Apply(1, 7);
  Apply(1, 8);
  EXPECT_EQ((*(*store_->Table(1))->GetRow(7))->header.update_num, 2) << "its row bypasses the filter";
  EXPECT_EQ(*store_->Size(), 1);
}

TEST_F(StoreTest, ReadOnlyStoreReadsBlockedKeysAsZerosAndNeedsNoFilter) {
  GroupConfig config = Config(1, 2, "sgd", 0.5);
  config.min_count = 2;
  config.initializer = Parameters("ones");
  Open();
  ASSERT_OK(store_->AddGroup(config).status());
  Apply(1, 7);
  Apply(1, 7);
  Apply(1, 8);  // all of it in the log only
  StoreOptions options;
  options.read_only = true;
  const StatusOr<std::unique_ptr<Store>> reader = TryOpen(options);
  ASSERT_OK(reader.status());
  std::vector<float> weights(4);
  ASSERT_OK((*(*reader)->Table(1))->Lookup(std::vector<uint64_t>{7, 8}, {}, *Executor::Inline(), weights));
  EXPECT_EQ(weights, (std::vector<float>{0.5f, 0.5f, 0, 0}));
  EXPECT_TRUE((*(*reader)->Table(1))->GetRow(7)->has_value());
  EXPECT_FALSE((*(*reader)->Table(1))->GetRow(8)->has_value());
  EXPECT_EQ((*reader)->Stats()->groups[0].memory.filter_bytes, 0);
}

TEST_F(StoreTest, UnknownGroupListsTheKnown) {
  Open();
  EXPECT_EQ(store_->Table(3).status().message(), "store '" + path_ + "' has no group 3; it has: none");
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  ASSERT_OK(store_->AddGroup(Config(9)).status());
  EXPECT_EQ(store_->Table(3).status().message(), "store '" + path_ + "' has no group 3; it has: 1, 9");
  EXPECT_EQ(store_->Table(256).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(StoreTest, InvalidConfigIsRefusedAndLeavesNoTrace) {
  Open();
  EXPECT_FALSE(store_->AddGroup(Config(1, 2, "adamm")).ok());
  EXPECT_FALSE(store_->AddGroup(Config(1, 0)).ok());
  EXPECT_FALSE(store_->AddGroup(Config(1, 2, "sgd", -1)).ok());
  EXPECT_EQ(store_->Table(1).status().code(), StatusCode::kNotFound);
  Open();
  EXPECT_EQ(store_->Table(1).status().code(), StatusCode::kNotFound);
}

TEST_F(StoreTest, SeedIsFixedAtCreation) {
  StoreOptions options;
  options.seed = 7;
  Open(options);
  Open();
  EXPECT_EQ(store_->options().seed, 7);
  store_.reset();
  options.seed = 8;
  EXPECT_EQ(TryOpen(options).status().message(), "open store '" + path_ + "': has seed 7, asked for 8");
}

TEST_F(StoreTest, NewerFormatIsRefusedWithBothVersions) {
  Open();
  OverwriteManifest("format", std::string("\x02\0\0\0", 4));
  EXPECT_EQ(TryOpen().status().message(),
            "open store '" + path_ + "': has format version 2, this release reads version 1");
}

TEST_F(StoreTest, DamagedManifestIsDataLoss) {
  Open();
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  OverwriteManifest("config/001", "{");
  const Status config = TryOpen().status();
  EXPECT_EQ(config.code(), StatusCode::kDataLoss);
  EXPECT_NE(config.message().find("manifest entry 'config/001'"), std::string::npos) << config.message();
  OverwriteManifest("config/001", Config(1).ToJson());
  OverwriteManifest("state/001", "123");
  EXPECT_NE(TryOpen().status().message().find("'state/001' has 3 bytes, expected 16"), std::string::npos);
}

TEST_F(StoreTest, MissingPartsOfTheManifestAreDataLoss) {
  Open();
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  OverwriteManifest("state/001", std::string(16, '\xff'));
  EXPECT_TRUE(FailsWith(TryOpen().status(), StatusCode::kDataLoss, "'state/001' has step -1 and -1 rows"));
  OverwriteManifest("config/002", Config(2).ToJson());
  OverwriteManifest("state/001", std::string(16, '\0'));
  EXPECT_TRUE(FailsWith(TryOpen().status(), StatusCode::kDataLoss, "'state/002' is missing"));
}

TEST_F(StoreTest, ManifestWithoutFormatIsNotTakenForANewStore) {
  const std::unique_ptr<Storage> rows = NewMemoryStorage();
  const std::unique_ptr<StorageBatch> batch = rows->NewBatch();
  ASSERT_OK(batch->PutManifest("seed", std::string(8, '\0')));
  ASSERT_OK(rows->Write(*batch));
  EXPECT_TRUE(FailsWith(LoadOrCreateManifest(*rows, 9, false).status(), StatusCode::kDataLoss,
                        "'format' is missing"));
}

TEST_F(StoreTest, ReadOnlyStoreReadsAndRefusesWrites) {
  Open();
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  Apply(1, 7);
  StoreOptions options;
  options.read_only = true;
  Open(options);
  EXPECT_EQ(*store_->Size(), 1);
  ASSERT_OK(store_->AddGroup(Config(1, 2, "sgd", 0.5)).status());
  EXPECT_EQ(store_->AddGroup(Config(2)).status().code(), StatusCode::kFailedPrecondition);
  const uint64_t key = 7;
  const Status apply =
      (*store_->Table(1))
          ->ApplyGradients(Span<const uint64_t>(&key, 1), std::vector<float>{1, 1}, {}, *Executor::Inline())
          .status();
  EXPECT_EQ(apply.message(), "apply gradients to group 1 of store '" + path_ + "': store '" + path_ +
                                 "' was opened read-only");
  EXPECT_EQ(store_->Flush().code(), StatusCode::kFailedPrecondition);
}

// Between the opening of the rows and the reading of the log the writer may do anything.
TEST_F(StoreTest, ReaderThatAFlushHasOvertakenIsRefused) {
  Open();
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  Apply(1, 7);
  ASSERT_OK(store_->Flush());
  Apply(1, 8);
  StoreOptions options;
  options.read_only = true;
  StatusOr<std::unique_ptr<Storage>> storage = TryOpenStorage(options);
  ASSERT_OK(storage.status());
  ASSERT_OK(store_->Flush());
  ASSERT_EQ(store_->Stats()->redo_bytes, 0) << "no segment tells that there were records";
  EXPECT_TRUE(FailsWith(Store::Open(path_, options, std::move(*storage), Clock::System()).status(),
                        StatusCode::kIoError, "has moved on while it was being opened"));
  const StatusOr<std::unique_ptr<Store>> reader = TryOpen(options);
  ASSERT_OK(reader.status());
  EXPECT_EQ(*(*reader)->Size(), 2);
}

TEST_F(StoreTest, ReaderSeesWhatIsLoggedWhileItOpens) {
  Open();
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  ASSERT_OK(store_->Flush());
  StoreOptions options;
  options.read_only = true;
  StatusOr<std::unique_ptr<Storage>> storage = TryOpenStorage(options);
  ASSERT_OK(storage.status());
  Apply(1, 7);
  StatusOr<std::unique_ptr<Store>> reader = Store::Open(path_, options, std::move(*storage), Clock::System());
  ASSERT_OK(reader.status());
  EXPECT_EQ(*(*reader)->Size(), 1);
}

TEST_F(StoreTest, StatsTellOfStoreAndGroups) {
  Open();
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  Apply(1, 7);
  Apply(1, 8);
  const StatusOr<StoreStats> stats = store_->Stats();
  ASSERT_OK(stats.status());
  EXPECT_GT(stats->storage.disk_bytes, 0);
  ASSERT_EQ(stats->groups.size(), 1);
  EXPECT_EQ(stats->groups[0].num_rows, 2);
  EXPECT_EQ(stats->groups[0].row_bytes, 9 + 32 + 8);
  EXPECT_EQ(stats->groups[0].step, 2);
  EXPECT_EQ(stats->groups[0].counters.inserted_rows, 2);
}

TEST_F(StoreTest, ClosedStoreRefusesCallsAndClosesTwice) {
  Open();
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  ASSERT_OK(store_->Close());
  ASSERT_OK(store_->Close());
  EXPECT_TRUE(store_->closed());
  EXPECT_EQ(store_->Size().status().message(), "store '" + path_ + "' is closed");
  EXPECT_FALSE(store_->Stats().ok());
  EXPECT_FALSE(store_->Flush().ok());
  EXPECT_FALSE(store_->AddGroup(Config(2)).ok());
}

// ---- snapshots and edits ----

// key -> update_num of every row of a snapshot's group.
std::map<uint64_t, int64_t> UpdateNumbers(const StoreSnapshot& snapshot, int group) {
  std::map<uint64_t, int64_t> numbers;
  const RowLayout& layout = snapshot.groups().at(group).recipe->layout;
  const Status scanned = snapshot.Scan(group, [&](uint64_t key, std::string_view row) -> Status {
    DAMO_ASSIGN_OR_RETURN(const RowHeader header,
                          DecodeRowHeader(row, layout, static_cast<uint8_t>(group), key));
    numbers[key] = header.update_num;
    return Status();
  });
  EXPECT_TRUE(IsOk(scanned));
  return numbers;
}

// Deletes the row of `key`, which exists, as an operator's tool would.
Status DeleteRow(Store& store, int group, uint64_t key) {
  return store.EditGroup(group, [&](GroupEdit& edit) -> Status {
    edit.state.num_rows -= 1;
    edit.keys = {key};
    const std::unique_ptr<StorageBatch> batch = edit.storage.NewBatch();
    DAMO_RETURN_IF_ERROR(batch->DeleteRow(static_cast<uint8_t>(group), key));
    DAMO_RETURN_IF_ERROR(PutGroupState(group, edit.state, *batch));
    return edit.storage.Write(*batch);
  });
}

class StoreMomentTest : public StoreTest, public testing::WithParamInterface<bool> {
 protected:
  StoreOptions Options() const {
    StoreOptions options;
    options.row_cache = GetParam();
    return options;
  }
};

TEST_P(StoreMomentTest, SnapshotHoldsWhatWasAppliedBeforeItAndNothingAfter) {
  Open(Options());
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  ASSERT_OK(store_->AddGroup(Config(2)).status());
  for (int i = 0; i < 3; ++i) Apply(1, 7);
  Apply(2, 8);
  const auto snapshot = store_->TakeSnapshot();
  ASSERT_OK(snapshot.status());
  Apply(1, 7);
  Apply(1, 9);
  ASSERT_OK(store_->Flush());
  EXPECT_EQ(UpdateNumbers(**snapshot, 1), (std::map<uint64_t, int64_t>{{7, 3}}));
  EXPECT_EQ(UpdateNumbers(**snapshot, 2), (std::map<uint64_t, int64_t>{{8, 1}}));
  EXPECT_EQ((*snapshot)->groups().at(1).state.step, 3);
  EXPECT_EQ((*snapshot)->groups().at(1).state.num_rows, 1);
}

TEST_P(StoreMomentTest, DeletedRowIsGoneFromMemoryAndAfterReopening) {
  Open(Options());
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  Apply(1, 7);
  Apply(1, 8);
  Apply(1, 7);
  ASSERT_OK(DeleteRow(*store_, 1, 7));
  EXPECT_FALSE((*store_->Table(1))->GetRow(7)->has_value());
  EXPECT_EQ(*store_->Size(), 1);
  Apply(1, 7);  // begins anew
  EXPECT_EQ((*(*store_->Table(1))->GetRow(7))->header.update_num, 1);
  Open(Options());
  EXPECT_EQ((*(*store_->Table(1))->GetRow(7))->header.update_num, 1);
  EXPECT_EQ((*(*store_->Table(1))->GetRow(8))->header.update_num, 1);
  EXPECT_EQ(*store_->Size(), 2);
}

TEST_P(StoreMomentTest, FailedEditIsReportedAndLeavesTheTable) {
  Open(Options());
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  Apply(1, 7);
  const Status status = store_->EditGroup(1, [](GroupEdit& edit) {
    edit.state.num_rows = 99;
    return DataLoss("the file ends early");
  });
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_EQ(status.message(), "change group 1 of store '" + path_ + "': the file ends early");
  EXPECT_EQ(*store_->Size(), 1);
  EXPECT_EQ((*(*store_->Table(1))->GetRow(7))->header.update_num, 1);
}

// Every row of a group, as the storage keeps it.
std::map<uint64_t, std::string> AllRows(const Store& store, int group) {
  std::map<uint64_t, std::string> rows;
  const auto snapshot = store.TakeSnapshot();
  EXPECT_TRUE(IsOk(snapshot.status()));
  EXPECT_TRUE(IsOk((*snapshot)->Scan(group, [&](uint64_t key, std::string_view row) {
    rows[key] = row;
    return Status();
  })));
  return rows;
}

TEST_F(StoreTest, ReaderStaysInItsBudgetWhateverTheLogHolds) {
  Open();
  for (const int group : {1, 2}) ASSERT_OK(store_->AddGroup(Config(group, 64, "adam", 0.1)).status());
  constexpr uint64_t kKeys = 8000;
  constexpr uint64_t kKeysPerCall = 2000;
  std::mt19937_64 random(7);
  const std::vector<float> gradients(kKeysPerCall * 64, 0.5f);
  const auto apply = [&](uint64_t first_key) {
    std::vector<uint64_t> keys(kKeysPerCall);
    for (uint64_t& key : keys) key = first_key + random() % kKeys;
    for (const int group : {1, 2}) {
      ASSERT_OK((*store_->Table(group))->ApplyGradients(keys, gradients, {}, *Executor::Inline()).status());
    }
  };
  apply(0);
  ASSERT_OK(store_->Flush());
  for (int call = 0; call < 10; ++call) apply(kKeys / 2);
  StoreOptions options;
  options.read_only = true;
  options.memory_budget = StoreOptions::kMinMemoryBudget;
  const int64_t limit = PlanMemory(*options.memory_budget).cache_bytes;
  const StatusOr<std::unique_ptr<Store>> reader = TryOpen(options);
  ASSERT_OK(reader.status());

  const StatusOr<StoreStats> stats = (*reader)->Stats();
  ASSERT_OK(stats.status());
  int64_t row_bytes = 0;
  for (const GroupStats& group : stats->groups) {
    row_bytes += group.num_rows * group.row_bytes;
    EXPECT_EQ(group.memory.num_dirty, 0) << "what is dirty stays in memory until the reader closes";
  }
  EXPECT_GT(row_bytes, 4 * limit) << "the log must hold more than has room";
  EXPECT_LE(stats->cache_bytes, limit + limit / 4);
  for (const int group : {1, 2}) {
    const std::map<uint64_t, std::string> found = AllRows(**reader, group);
    EXPECT_EQ(static_cast<int64_t>(found.size()), *(*(*reader)->Table(group))->Size());
    EXPECT_TRUE(found == AllRows(*store_, group)) << "group " << group;
    for (const uint64_t key : {found.begin()->first, found.rbegin()->first}) {
      const auto row = (*(*reader)->Table(group))->GetRow(key);
      ASSERT_TRUE(row.ok() && *row) << key;
      EXPECT_EQ((*row)->weights, (*(*store_->Table(group))->GetRow(key))->weights);
    }
  }
}

TEST_F(StoreTest, ReaderWithoutAPlaceForWhatTheLogHoldsSaysSo) {
  Open();
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  Apply(1, 7);
  const char* const place = getenv("TMPDIR");
  const std::optional<std::string> before =
      place == nullptr ? std::nullopt : std::optional<std::string>(place);
  setenv("TMPDIR", (directory_ / "absent").c_str(), /*replace=*/1);
  StoreOptions options;
  options.read_only = true;
  const Status opened = TryOpen(options).status();
  if (before) {
    setenv("TMPDIR", before->c_str(), /*replace=*/1);
  } else {
    unsetenv("TMPDIR");
  }
  EXPECT_TRUE(FailsWith(opened, StatusCode::kFailedPrecondition, "'" + (directory_ / "absent") + "'"));
  EXPECT_TRUE(FailsWith(opened, StatusCode::kFailedPrecondition, "TMPDIR"));
}

TEST_P(StoreMomentTest, ReadOnlyStoreHasSnapshotsButNoEdits) {
  Open(Options());
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  Apply(1, 7);
  ASSERT_OK(store_->Flush());
  Apply(1, 7);  // with row cache in the log only
  Apply(1, 9);
  StoreOptions options = Options();
  options.read_only = true;
  const StatusOr<std::unique_ptr<Store>> reader = TryOpen(options);
  ASSERT_OK(reader.status());
  const auto snapshot = (*reader)->TakeSnapshot();
  ASSERT_OK(snapshot.status());
  EXPECT_EQ(UpdateNumbers(**snapshot, 1), (std::map<uint64_t, int64_t>{{7, 2}, {9, 1}}));
  EXPECT_EQ(DeleteRow(**reader, 1, 7).code(), StatusCode::kFailedPrecondition);
}

TEST_F(StoreTest, SnapshotAndEditOfAClosedStoreFail) {
  Open();
  ASSERT_OK(store_->AddGroup(Config(1)).status());
  ASSERT_OK(store_->Close());
  EXPECT_EQ(store_->TakeSnapshot().status().message(),
            "read store '" + path_ + "': store '" + path_ + "' is closed");
  EXPECT_EQ(DeleteRow(*store_, 1, 7).code(), StatusCode::kFailedPrecondition);
}

INSTANTIATE_TEST_SUITE_P(Kinds, StoreMomentTest, testing::Bool(),
                         [](const auto& info) { return std::string(info.param ? "Cached" : "Direct"); });

}  // namespace
}  // namespace damo
