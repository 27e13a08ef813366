// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints of a store: what is restored is what there was, in every bit, and training goes on from it as
// though it had never gone elsewhere (contract C13).
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/checkpoint/description.h"
#include "damo/redo/test_log_file_system.h"
#include "damo/storage/directory.h"
#include "damo/storage/rocksdb_storage.h"
#include "damo/storage/test_faults.h"
#include "damo/table/store.h"
#include "damo/table/test_tables.h"
#include "damo/table/verify_checkpoint.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kDim = 3;
constexpr uint64_t kNumKeys = 400;
constexpr int kFilteredGroup = 3;

struct Setting {
  std::string name;
  bool row_cache;
  Durability durability;
};

void PrintTo(const Setting& setting, std::ostream* out) { *out << setting.name; }

GroupConfig Config(int group, int64_t dim = kDim, const std::string& optimizer = "adam") {
  return TableConfig(group, dim, optimizer, "random_normal");
}

// One whose keys get rows when they have occurred three times. Its filter is of two pages.
GroupConfig FilteredConfig() {
  GroupConfig config = Config(kFilteredGroup);
  config.min_count = 3;
  config.filter_capacity = 1000;
  return config;
}

// Every row of a store in its stored form, every step, and every page of a filter.
struct Content {
  std::map<std::pair<int, uint64_t>, std::string> rows;
  std::map<int, std::pair<int64_t, int64_t>> states;
  std::map<std::string, std::string> filter_pages;

  bool operator==(const Content& other) const {
    return rows == other.rows && states == other.states && filter_pages == other.filter_pages;
  }
};

void PrintTo(const Content& content, std::ostream* out) {
  *out << content.rows.size() << " rows, " << content.filter_pages.size() << " pages of filters, ";
  for (const auto& [group, state] : content.states) {
    *out << "group " << group << " at step " << state.first << " with " << state.second << " rows; ";
  }
}

Content ContentOf(const Store& store) {
  Content content;
  StatusOr<std::unique_ptr<StoreSnapshot>> snapshot = store.TakeSnapshot();
  EXPECT_TRUE(IsOk(snapshot.status()));
  if (!snapshot.ok()) return content;
  for (const auto& [number, group] : (*snapshot)->groups()) {
    const int group_number = number;
    content.states[number] = {group.state.step, group.state.num_rows};
    EXPECT_TRUE(IsOk((*snapshot)->Scan(number, [&](uint64_t key, std::string_view row) {
      content.rows[{group_number, key}] = row;
      return Status();
    })));
  }
  EXPECT_TRUE(IsOk((*snapshot)->stored().ScanManifest([&](std::string_view name, std::string_view value) {
    if (name.substr(0, 7) == "filter/") content.filter_pages[std::string(name)] = value;
    return Status();
  })));
  return content;
}

// A store that can be opened, trained by numbered batches, and made to fail.
class TestStore {
 public:
  explicit TestStore(Setting setting) : setting_(std::move(setting)) {}
  TestStore() : TestStore(Setting{"wal", true, Durability::kWal}) {}

  Status Open(std::optional<uint64_t> seed = std::nullopt) {
    StoreOptions options;
    options.seed = seed;
    return OpenWith(options);
  }

  // `options` says nothing of what is the setting's.
  Status OpenWith(StoreOptions options) {
    Close();
    RocksDbStorageOptions storage_options;
    storage_options.memory_budget = PlanMemory(StoreOptions::kMinMemoryBudget).storage_bytes;
    storage_options.durability = setting_.row_cache ? Durability::kSync : setting_.durability;
    storage_options.env_for_test = &env_;
    DAMO_ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenRocksDbStorage(path(), storage_options));
    options.memory_budget = options.memory_budget.value_or(StoreOptions::kMinMemoryBudget);
    options.durability = setting_.durability;
    options.row_cache = setting_.row_cache;
    options.clock = ClockKind::kEvent;  // the only one that a restore sets back
    DAMO_ASSIGN_OR_RETURN(store_, Store::Open(path(), options, std::move(storage), Clock::System()));
    return Status();
  }

  void Close() {
    if (store_ != nullptr) store_->Close().IgnoreError();  // what a test must know it asks for
    store_.reset();
  }

  // Batches first .. first + n - 1 of groups 1, 2 and the filtered one. Time and keys are the batch's:
  // whoever trains a batch does the same.
  void Train(int first, int n) {
    for (int number = first; number < first + n; ++number) {
      ASSERT_OK(store_->AdvanceClock(1'000'000 + number));
      for (const int group : {1, 2, kFilteredGroup}) {
        std::mt19937_64 random(1000 * group + number);
        const Batch batch = RandomBatch(random, 150, kNumKeys, kDim);
        ASSERT_OK(TryApply(*MustAdd(group), batch).status());
      }
    }
  }

  std::shared_ptr<EmbeddingTable> MustAdd(int group) {
    StatusOr<std::shared_ptr<EmbeddingTable>> table =
        store_->AddGroup(group == kFilteredGroup ? FilteredConfig() : Config(group));
    EXPECT_TRUE(IsOk(table.status()));
    return table.ok() ? *table : nullptr;
  }

  // Deletes every third key of group 1.
  void DeleteSome() {
    ASSERT_OK(store_->EditGroup(1, [](GroupEdit& edit) -> Status {
      DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<SortedBatch> batch, edit.storage.NewSortedBatch());
      std::vector<uint64_t> keys;
      DAMO_RETURN_IF_ERROR(edit.storage.Scan(1, [&](uint64_t key, std::string_view) -> Status {
        if (key % 3 != 0) return Status();
        keys.push_back(key);
        return batch->DeleteRow(1, key);
      }));
      edit.state.num_rows -= static_cast<int64_t>(keys.size());
      DAMO_RETURN_IF_ERROR(PutGroupState(1, edit.state, *batch));
      return batch->Commit();
    }));
  }

  Content content() const { return ContentOf(*store_); }
  Store& store() { return *store_; }
  FaultPlan& plan() { return *plan_; }
  std::string path() const { return directory_ / "store"; }
  std::string operator/(const std::string& name) const { return directory_ / name; }

 private:
  const Setting setting_;
  const TestDirectory directory_;
  std::shared_ptr<FaultPlan> plan_ = std::make_shared<FaultPlan>();
  FaultEnv env_{plan_};
  std::unique_ptr<Store> store_;
};

class StoreCheckpointTest : public testing::TestWithParam<Setting> {
 protected:
  void SetUp() override { ASSERT_OK(a_.Open()); }

  std::string SettingsOfGroup1() { return (*a_.store().Table(1))->recipe()->config.ToJson(); }

  TestStore a_{GetParam()};
  TestStore b_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Stores, StoreCheckpointTest,
                         testing::Values(Setting{"wal", true, Durability::kWal},
                                         Setting{"sync", true, Durability::kSync},
                                         Setting{"checkpoint", true, Durability::kCheckpoint},
                                         Setting{"direct", false, Durability::kWal},
                                         Setting{"direct_checkpoint", false, Durability::kCheckpoint}),
                         [](const auto& info) { return info.param.name; });

TEST_P(StoreCheckpointTest, TrainingFromACheckpointEqualsTrainingWithoutInterruption) {
  a_.Train(0, 5);
  const Content at_checkpoint = a_.content();
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  a_.Train(5, 5);
  const Content uninterrupted = a_.content();
  a_.Train(50, 3);  // astray
  ASSERT_OK(a_.store().Restore({a_ / "c"}));
  EXPECT_EQ(a_.content(), at_checkpoint);
  a_.Train(5, 5);
  EXPECT_EQ(a_.content(), uninterrupted);
  ASSERT_OK(a_.Open());
  EXPECT_EQ(a_.content(), uninterrupted);
}

TEST_P(StoreCheckpointTest, ANewStoreIsRestoredFromIt) {
  a_.Train(0, 5);
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  ASSERT_OK(b_.Open());
  ASSERT_OK(b_.store().Restore({a_ / "c"}));
  EXPECT_EQ(b_.content(), a_.content());
  a_.Train(5, 2);
  b_.Train(5, 2);
  EXPECT_EQ(b_.content(), a_.content());
  ASSERT_OK(b_.Open());
  EXPECT_EQ(b_.content(), a_.content());
}

TEST_P(StoreCheckpointTest, ANewStoreWhoseGroupsAreInUseIsRestoredFromIt) {
  a_.Train(0, 5);
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  ASSERT_OK(b_.Open());
  for (const int group : {1, 2}) ASSERT_NE(b_.MustAdd(group), nullptr);  // they know that they are empty
  ASSERT_OK(b_.store().Restore({a_ / "c"}));
  a_.Train(5, 2);
  b_.Train(5, 2);
  EXPECT_EQ(b_.content(), a_.content());
}

TEST_P(StoreCheckpointTest, DeltasAddUpWhateverWasChangedAndDeleted) {
  std::vector<Content> contents;
  std::vector<std::string> chain;
  for (int i = 0; i < 4; ++i) {
    a_.Train(3 * i, 3);
    if (i % 2 == 1) a_.DeleteSome();
    contents.push_back(a_.content());
    chain.push_back(a_ / std::to_string(i));
    ASSERT_OK(i == 0 ? a_.store().Checkpoint(chain[0]) : a_.store().CheckpointDelta(chain[i], chain[i - 1]));
  }
  for (const int i : {3, 0, 2, 1}) {
    ASSERT_OK(a_.store().Restore({chain[i]}));
    EXPECT_EQ(a_.content(), contents[i]);
    ASSERT_OK(b_.Open());
    ASSERT_OK(b_.store().Restore({chain.begin(), chain.begin() + i + 1}));
    EXPECT_EQ(b_.content(), contents[i]);
  }
}

TEST_P(StoreCheckpointTest, ADeltaIsRestoredThroughASymbolicLinkToWhereItLies) {
  fs::create_directories(a_ / "real/sub/deep");
  fs::create_directory_symlink(a_ / "real/sub/deep", a_ / "link");
  a_.Train(0, 2);
  ASSERT_OK(a_.store().Checkpoint(a_ / "real/base"));
  a_.Train(2, 1);
  ASSERT_OK(a_.store().CheckpointDelta(a_ / "link/d1", a_ / "real/base"));
  fs::create_directory_symlink(a_ / "real/sub/deep/d1", a_ / "other_link");
  a_.Train(3, 1);
  ASSERT_OK(a_.store().CheckpointDelta(a_ / "d2", a_ / "other_link"));
  const Content at_d2 = a_.content();
  for (const char* const name : {"link/d1", "other_link", "real/sub/deep/d1"}) {
    EXPECT_TRUE(IsOk(a_.store().Restore({a_ / name})));
  }
  EXPECT_TRUE(IsOk(a_.store().Restore({a_ / "d2"})));
  EXPECT_EQ(a_.content(), at_d2);
}

TEST_P(StoreCheckpointTest, AGroupThatTheCheckpointLacksBeginsEmpty) {
  a_.Train(0, 2);
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  const auto extra = a_.MustAdd(7);
  Apply(*extra, {{1, 2}, Floats(2 * kDim, 1)});
  EXPECT_EQ(extra->step(), 1);
  ASSERT_OK(a_.store().Restore({a_ / "c"}));
  EXPECT_EQ(extra->step(), 0);
  EXPECT_EQ(*extra->Size(), 0);
  EXPECT_EQ(*extra->GetRow(1), std::nullopt);
  Apply(*extra, {{1}, Floats(kDim, 1)});
  EXPECT_EQ((*extra->GetRow(1))->header.update_num, 1);
  ASSERT_OK(a_.Open());
  EXPECT_EQ(*(*a_.store().Table(7))->Size(), 1);
}

TEST_P(StoreCheckpointTest, GroupsThatTheStoreLacksAreThere) {
  a_.Train(0, 2);
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  ASSERT_OK(b_.Open());
  EXPECT_FALSE(b_.store().Table(1).ok());
  ASSERT_OK(b_.store().Restore({a_ / "c"}));
  EXPECT_EQ((*b_.store().Table(1))->step(), 2);
}

TEST_P(StoreCheckpointTest, SettingsAskedForStayAndOthersAreTheCheckpoints) {
  a_.Train(0, 1);
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  GroupConfig slower = Config(1);
  slower.optimizer.Insert("gamma", 0.25);
  ASSERT_OK(a_.Open());
  ASSERT_OK(a_.store().AddGroup(slower).status());
  ASSERT_OK(a_.store().Restore({a_ / "c"}));
  EXPECT_NE(SettingsOfGroup1().find("\"gamma\":0.25"), std::string::npos) << SettingsOfGroup1();
  ASSERT_OK(a_.Open());
  ASSERT_OK(a_.store().Restore({a_ / "c"}));
  EXPECT_NE(SettingsOfGroup1().find("\"gamma\":0.001"), std::string::npos) << SettingsOfGroup1();
}

TEST_P(StoreCheckpointTest, WhatWasCountedOfKeysWithoutRowIsRestored) {
  const auto count = [](TestStore& store, uint64_t key) {
    return Apply(*store.MustAdd(kFilteredGroup), {{key}, Floats(kDim, 1)}).num_updated == 0 ? "blocked"
                                                                                            : "row";
  };
  EXPECT_EQ(count(a_, 7), std::string("blocked"));
  ASSERT_OK(a_.store().Checkpoint(a_ / "once"));
  EXPECT_EQ(count(a_, 7), std::string("blocked"));
  ASSERT_OK(a_.store().CheckpointDelta(a_ / "twice", a_ / "once"));
  EXPECT_EQ(count(a_, 7), std::string("row"));
  ASSERT_OK(a_.store().Restore({a_ / "once"}));
  EXPECT_EQ(count(a_, 7), std::string("blocked"));
  EXPECT_EQ(count(a_, 7), std::string("row"));
  ASSERT_OK(b_.Open());
  ASSERT_OK(b_.store().Restore({a_ / "twice"}));
  EXPECT_EQ(count(b_, 7), std::string("row"));
}

TEST_P(StoreCheckpointTest, SizeOfAFilterGivesWayToTheCheckpointsUnlessSomeoneAskedForIt) {
  a_.Train(0, 3);
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  GroupConfig asked = FilteredConfig();
  asked.filter_capacity.reset();  // a default, which depends on the memory budget
  ASSERT_OK(b_.Open());
  ASSERT_OK(b_.store().AddGroup(asked).status());
  ASSERT_OK(b_.store().Restore({a_ / "c"}));
  EXPECT_EQ((*b_.store().Table(kFilteredGroup))->recipe()->config.filter_capacity, 1000);
  EXPECT_EQ(b_.content(), a_.content());
  a_.Train(3, 2);
  ASSERT_OK(b_.store().AddGroup(asked).status());
  b_.Train(3, 2);
  EXPECT_EQ(b_.content(), a_.content());

  ASSERT_OK(b_.Open());  // the group stands, nobody has asked for it
  ASSERT_OK(b_.store().Restore({a_ / "c"}));
  TestStore other(GetParam());
  ASSERT_OK(other.Open());
  asked.filter_capacity = 2000;
  ASSERT_OK(other.store().AddGroup(asked).status());
  EXPECT_TRUE(FailsWith(other.store().Restore({a_ / "c"}), StatusCode::kInvalidArgument,
                        "group 3 of the store: has filter_capacity 2000, asked for 1000"));
  TestStore without(GetParam());
  ASSERT_OK(without.Open());
  ASSERT_OK(without.store().AddGroup(Config(kFilteredGroup)).status());  // with no min_count
  ASSERT_OK(without.store().Restore({a_ / "c"}));
  EXPECT_EQ((*without.store().Table(kFilteredGroup))->recipe()->config.filter_capacity, 1000);
}

TEST_P(StoreCheckpointTest, AFilterThatLeavesTooLittleToRowsIsRefusedWhereKeysAreCounted) {
  if (!GetParam().row_cache) return;  // such a store holds no filter
  GroupConfig large = FilteredConfig();
  large.filter_capacity = int64_t{1} << 17;  // more than the least budget has room for
  StoreOptions options;
  options.memory_budget = int64_t{64} << 20;
  ASSERT_OK(b_.Open());
  b_.Close();
  ASSERT_OK(b_.OpenWith(options));
  ASSERT_OK(b_.store().AddGroup(large).status());
  Apply(**b_.store().Table(kFilteredGroup), {{7}, Floats(kDim, 1)});
  ASSERT_OK(b_.store().Checkpoint(b_ / "c"));

  ASSERT_OK(b_.Open());  // with the least budget: for whoever does not train
  const auto table = *b_.store().Table(kFilteredGroup);
  EXPECT_EQ(table->memory().filter_bytes, 0);
  EXPECT_GT(b_.store().Stats()->groups[0].filter_fill, 0) << "as it is on disk";
  ASSERT_OK(b_.store().Checkpoint(b_ / "again"));
  ASSERT_OK(b_.store().Restore({b_ / "c"}));
  const std::string_view text =
      "takes 946176 bytes, those of all groups 946176; memory_budget=4194304 leaves 655360";
  EXPECT_TRUE(
      FailsWith(TryApply(*table, {{7}, Floats(kDim, 1)}).status(), StatusCode::kInvalidArgument, text));
  EXPECT_TRUE(FailsWith(b_.store().AddGroup(large).status(), StatusCode::kInvalidArgument, text));
  GroupConfig small = FilteredConfig();
  small.filter_capacity.reset();
  ASSERT_OK(a_.store().AddGroup(small).status());
  EXPECT_TRUE(FailsWith(a_.store().Restore({b_ / "c"}), StatusCode::kInvalidArgument, text));
}

TEST_P(StoreCheckpointTest, WhatDoesNotFitIsRefusedWithBothValuesAndChangesNothing) {
  a_.Train(0, 2);
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  ASSERT_OK(b_.Open(/*seed=*/5));
  EXPECT_TRUE(FailsWith(b_.store().Restore({a_ / "c"}), StatusCode::kInvalidArgument,
                        "the checkpoint has seed 0, the store has 5"));
  EXPECT_TRUE(FailsWith(b_.store().CheckpointDelta(a_ / "d", a_ / "c"), StatusCode::kInvalidArgument,
                        "has seed 0, the store has 5"));
  TestStore other(GetParam());
  ASSERT_OK(other.Open());
  ASSERT_OK(other.store().AddGroup(Config(1, 8)).status());
  EXPECT_TRUE(FailsWith(other.store().Restore({a_ / "c"}), StatusCode::kInvalidArgument,
                        "group 1 of the store: has dim 8, asked for 3"));
  TestStore third(GetParam());
  ASSERT_OK(third.Open());
  ASSERT_OK(third.store().AddGroup(Config(2, kDim, "sgd")).status());
  EXPECT_TRUE(FailsWith(third.store().Restore({a_ / "c"}), StatusCode::kInvalidArgument,
                        "group 2 of the store: has optimizer 'sgd', asked for 'adam'"));
  EXPECT_FALSE(third.store().Table(1).ok());
}

TEST_P(StoreCheckpointTest, ADirectoryThatStandsIsNotTouched) {
  fs::create_directories(a_ / "c");
  EXPECT_TRUE(FailsWith(a_.store().Checkpoint(a_ / "c"), StatusCode::kInvalidArgument,
                        "/c': there is something already"));
  EXPECT_TRUE(FailsWith(a_.store().Checkpoint(a_.path() + "/c"), StatusCode::kInvalidArgument,
                        "/c' must lie outside the store's own directory"));
}

TEST_P(StoreCheckpointTest, LogRecordsOfBeforeAreNotReplayedOverRestoredRows) {
  a_.Train(0, 4);
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  const Content at_checkpoint = a_.content();
  a_.Train(4, 4);  // in the log only, where there is one
  ASSERT_OK(a_.store().Restore({a_ / "c"}));
  ASSERT_OK(a_.Open());
  EXPECT_EQ(a_.content(), at_checkpoint);
}

class DamagedCheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(a_.Open());
    a_.Train(0, 3);
    ASSERT_OK(a_.store().Checkpoint(a_ / "full"));
    a_.Train(3, 1);
    ASSERT_OK(a_.store().CheckpointDelta(a_ / "delta", a_ / "full"));
    a_.Train(4, 1);
    before_ = a_.content();
  }

  void ExpectRefused(const std::vector<std::string>& chain, StatusCode code, std::string_view text) {
    EXPECT_TRUE(FailsWith(a_.store().Restore(chain), code, text));
    EXPECT_EQ(a_.content(), before_);
  }

  std::vector<StorageFile> FilesOf(const std::string& name) {
    StatusOr<CheckpointDescription> description = ReadDescription(a_ / name);
    EXPECT_TRUE(IsOk(description.status()));
    return description.ok() ? description->files : std::vector<StorageFile>();
  }

  TestStore a_;
  Content before_;
};

TEST_F(DamagedCheckpointTest, WhatIsNoCheckpointIsNotFound) {
  ExpectRefused({a_ / "nowhere"}, StatusCode::kNotFound, "there is no file");
  ExpectRefused({a_.path()}, StatusCode::kNotFound, "there is no file");
  ExpectRefused({}, StatusCode::kInvalidArgument, "must have at least one");
}

TEST_F(DamagedCheckpointTest, EveryFileThatIsMissingOrTruncatedIsNoticed) {
  for (const char* const name : {"full", "delta"}) {
    const std::vector<StorageFile> files = FilesOf(name);
    ASSERT_FALSE(files.empty());
    for (const StorageFile& file : files) {
      const std::string path = a_ / name + "/" + file.name;
      fs::rename(path, a_ / "away");
      ExpectRefused({a_ / "delta"}, StatusCode::kDataLoss, "No such file");
      if (file.bytes > 0) {
        fs::copy(a_ / "away", path);  // not a link: the file may be the store's as well
        fs::resize_file(path, file.bytes - 1);
        ExpectRefused({a_ / "delta"}, StatusCode::kDataLoss, StrCat("expected ", file.bytes));
      }
      fs::rename(a_ / "away", path);
    }
  }
  EXPECT_TRUE(IsOk(a_.store().Restore({a_ / "delta"})));
}

TEST_F(DamagedCheckpointTest, AFlippedBitIsNoticed) {
  for (const char* const name : {"full", "delta"}) {
    for (const StorageFile& file : FilesOf(name)) {
      if (fs::path(file.name).extension() != ".sst") continue;
      const std::string path = a_ / name + "/" + file.name;
      fs::rename(path, a_ / "away");
      fs::copy(a_ / "away", path);
      std::fstream bytes(path, std::ios::binary | std::ios::in | std::ios::out);
      bytes.seekp(100);
      const int byte = bytes.peek();
      bytes.put(static_cast<char>(byte ^ 1));
      bytes.close();
      ExpectRefused({a_ / name}, StatusCode::kDataLoss, "");
      fs::rename(a_ / "away", path);
    }
  }
}

TEST_F(DamagedCheckpointTest, ATruncatedDescriptionIsNoticed) {
  const std::string path = a_ / "full/DAMO_CHECKPOINT";
  const uintmax_t size = fs::file_size(path);
  for (const uintmax_t bytes : {uintmax_t{0}, size / 2, size - 3}) {
    fs::resize_file(path, bytes);
    ExpectRefused({a_ / "full"}, StatusCode::kDataLoss, "is not a JSON object");
  }
}

TEST_F(DamagedCheckpointTest, ADescriptionThatIsNotTheManifestsIsRefusedWithBothValues) {
  const auto expect = [&](const std::function<void(CheckpointDescription&)>& change, std::string_view text) {
    for (const char* const name : {"full", "delta"}) {
      const StatusOr<CheckpointDescription> written = ReadDescription(a_ / name);
      ASSERT_OK(written.status());
      CheckpointDescription changed = *written;
      change(changed);
      ASSERT_OK(WriteDescription(changed, a_ / name));
      ExpectRefused({a_ / name}, StatusCode::kDataLoss, text);
      ASSERT_OK(WriteDescription(*written, a_ / name));
    }
  };
  expect([](auto& d) { d.groups[0].num_rows = 9; }, "group 1: the description has rows 9, the manifest ");
  expect([](auto& d) { d.groups[1].step = 12345; }, "group 2: the description has step 12345, the manifest ");
  expect([](auto& d) { d.groups[0].config.optimizer.Insert("gamma", 0.5); },
         "group 1: the description has config {");
  expect([](auto& d) { d.groups[0].config.group = 9; },
         "group 9: the description has it, the manifest does not");
  expect([](auto& d) { d.groups.pop_back(); }, "the description has number of groups 2, the manifest 3");
  expect([](auto& d) { d.seed = 3; }, "the description has seed 3, the manifest 0");
  EXPECT_TRUE(IsOk(a_.store().Restore({a_ / "delta"})));
}

TEST_F(DamagedCheckpointTest, ANumberOfRowsThatIsNotTheManifestsIsNoticedAndNothingChanges) {
  StatusOr<CheckpointDescription> description = ReadDescription(a_ / "full");
  ASSERT_OK(description.status());
  fs::remove(a_ / "full/DAMO_CHECKPOINT");  // so that it can be written to
  {
    StatusOr<std::unique_ptr<Storage>> storage = OpenRocksDbStorage(a_ / "full", RocksDbStorageOptions());
    ASSERT_OK(storage.status());
    const auto snapshot = (*storage)->NewSnapshot();
    const std::unique_ptr<RowCursor> rows = (*snapshot)->NewCursor(1);
    ASSERT_TRUE(rows->Next());
    const std::unique_ptr<StorageBatch> batch = (*storage)->NewBatch();
    ASSERT_OK(batch->DeleteRow(1, rows->key()));
    ASSERT_OK((*storage)->Write(*batch));
  }
  StatusOr<std::vector<StorageFile>> files = DescribeFiles(a_ / "full", "");
  ASSERT_OK(files.status());
  description->files = std::move(*files);
  ASSERT_OK(WriteDescription(*description, a_ / "full"));
  const int64_t num_rows = description->groups[0].num_rows;
  ExpectRefused({a_ / "full"}, StatusCode::kDataLoss,
                StrCat("the checkpoint has ", num_rows - 1, " rows of group 1, by its manifest ", num_rows));
}

TEST_F(DamagedCheckpointTest, AWrongOrMissingBaseIsNoticed) {
  ASSERT_OK(a_.store().Checkpoint(a_ / "other"));
  ExpectRefused({a_ / "other", a_ / "delta"}, StatusCode::kInvalidArgument, "builds on checkpoint");
  ExpectRefused({a_ / "delta", a_ / "full"}, StatusCode::kInvalidArgument, "must begin with a full");
  ExpectRefused({a_ / "full", a_ / "other"}, StatusCode::kInvalidArgument, "which is full");
  fs::rename(a_ / "full", a_ / "moved");
  ExpectRefused({a_ / "delta"}, StatusCode::kNotFound, "/full");
  fs::rename(a_ / "other", a_ / "full");
  ExpectRefused({a_ / "delta"}, StatusCode::kInvalidArgument, "builds on checkpoint");
  EXPECT_TRUE(IsOk(a_.store().Restore({a_ / "moved", a_ / "delta"})));
}

TEST_F(DamagedCheckpointTest, ACheckpointCanBeReadAndNotWritten) {
  StatusOr<std::unique_ptr<Storage>> writer = OpenRocksDbStorage(a_ / "full", RocksDbStorageOptions());
  EXPECT_TRUE(FailsWith(writer.status(), StatusCode::kFailedPrecondition, "it is a checkpoint"));
  RocksDbStorageOptions read_only;
  read_only.read_only = true;
  StatusOr<std::unique_ptr<Storage>> reader = OpenRocksDbStorage(a_ / "full", read_only);
  ASSERT_OK(reader.status());
  StoreOptions options;
  options.read_only = true;
  StatusOr<std::unique_ptr<Store>> store =
      Store::Open(a_ / "full", options, std::move(*reader), Clock::System());
  ASSERT_OK(store.status());
  const Content read = ContentOf(**store);
  EXPECT_TRUE(FailsWith((*store)->Checkpoint(a_ / "x"), StatusCode::kFailedPrecondition, "read-only"));
  EXPECT_TRUE(FailsWith((*store)->Restore({a_ / "full"}), StatusCode::kFailedPrecondition, "read-only"));
  ASSERT_OK(a_.store().Restore({a_ / "full"}));
  EXPECT_EQ(a_.content(), read);
  StatusOr<std::unique_ptr<Storage>> delta = OpenRocksDbStorage(a_ / "delta", read_only);
  EXPECT_TRUE(FailsWith(delta.status(), StatusCode::kInvalidArgument, "a checkpoint of changes only"));
}

// ---- trouble on the way ----

// Reads are not among them: RocksDB does not notice one that fails while it takes a file in.
constexpr FileOperation kOperations[] = {FileOperation::kCreate, FileOperation::kWrite,
                                         FileOperation::kSync,   FileOperation::kRename,
                                         FileOperation::kLink,   FileOperation::kSyncDirectory};

FaultPlan::Fault FaultAt(FileOperation operation, int at) {
  return {operation, at, at % 2 == 1, at % 3 == 0 ? FaultKind::kNoSpace : FaultKind::kIoError};
}

// Calls `run` with a new store and, each time, the next fault. It returns whether the fault was met.
template <typename Run>
void ForEachFault(const Run& run) {
  for (const FileOperation operation : kOperations) {
    bool met = true;
    for (int at = 0; met && !testing::Test::HasFailure(); ++at) {
      SCOPED_TRACE(StrCat("operation ", static_cast<int>(operation), ", number ", at, " fails"));
      TestStore a;
      ASSERT_OK(a.Open());
      a.Train(0, 2);
      met = run(a, FaultAt(operation, at));
    }
  }
}

TEST(StoreCheckpointFaultTest, ACheckpointThatFailsLeavesNothingAndOneThatDoesNotIsWhole) {
  ForEachFault([](TestStore& a, const FaultPlan::Fault& fault) {
    const Content before = a.content();
    a.plan().Set(fault);
    const Status status = a.store().Checkpoint(a / "c");
    const bool met = a.plan().num_failed() > 0;
    a.plan().Set(std::nullopt);
    EXPECT_FALSE(fs::exists(a / "c.unfinished"));
    EXPECT_EQ(fs::exists(a / "c"), status.ok()) << status.ToString();
    EXPECT_TRUE(IsOk(a.Open()));
    EXPECT_EQ(a.content(), before);
    a.Train(2, 1);
    if (status.ok()) {
      EXPECT_TRUE(IsOk(a.store().Restore({a / "c"})));
      EXPECT_EQ(a.content(), before);
    }
    return met;
  });
}

TEST(StoreCheckpointFaultTest, ARestoreThatFailsLeavesTheStoreAsItWasOrRestored) {
  ForEachFault([](TestStore& a, const FaultPlan::Fault& fault) {
    const Content at_checkpoint = a.content();
    EXPECT_TRUE(IsOk(a.store().Checkpoint(a / "c")));
    a.Train(2, 2);
    const Content before = a.content();
    a.plan().Set(fault);
    const Status status = a.store().Restore({a / "c"});
    const bool met = a.plan().num_failed() > 0;
    a.plan().Set(std::nullopt);
    if (status.ok()) {
      EXPECT_EQ(a.content(), at_checkpoint);
      return met;
    }
    // A store that takes a further call is as it was, also when it is opened anew; one that takes none may be
    // found restored.
    const bool went_on = TryApply(*a.MustAdd(1), {{1, 2, 3}, Floats(3 * kDim, 1)}).ok();
    EXPECT_TRUE(IsOk(a.Open()));
    const Content found = a.content();
    if (went_on) {
      EXPECT_EQ(found.states.at(1).first, before.states.at(1).first + 1);
      EXPECT_EQ(found.states.at(2), before.states.at(2));
    } else {
      EXPECT_TRUE(found == at_checkpoint || found == before) << testing::PrintToString(found);
    }
    return met;
  });
}

TEST(StoreCheckpointFaultTest, ADeltaThatFailsLeavesNothingAndOneThatDoesNotIsWhole) {
  ForEachFault([](TestStore& a, const FaultPlan::Fault& fault) {
    EXPECT_TRUE(IsOk(a.store().Checkpoint(a / "c")));
    a.Train(2, 1);
    a.DeleteSome();
    const Content before = a.content();
    a.plan().Set(fault);
    const Status status = a.store().CheckpointDelta(a / "d", a / "c");
    const bool met = a.plan().num_failed() > 0;
    a.plan().Set(std::nullopt);
    EXPECT_FALSE(fs::exists(a / "d.unfinished"));
    EXPECT_EQ(fs::exists(a / "d"), status.ok()) << status.ToString();
    EXPECT_EQ(a.content(), before);
    a.Train(3, 1);
    if (status.ok()) {
      EXPECT_TRUE(IsOk(a.store().Restore({a / "d"})));
      EXPECT_EQ(a.content(), before);
    }
    return met;
  });
}

TEST(StoreCheckpointFaultTest, ADeltaThatIsRefusedLeavesNothing) {
  TestStore a;
  ASSERT_OK(a.Open());
  a.Train(0, 2);
  ASSERT_OK(a.store().Checkpoint(a / "c"));
  a.Train(2, 1);
  const Content before = a.content();
  fs::create_directories(a / "d");
  EXPECT_FALSE(a.store().CheckpointDelta(a / "d", a / "c").ok());
  EXPECT_FALSE(a.store().CheckpointDelta(a / "e", a / "nowhere").ok());
  EXPECT_FALSE(fs::exists(a / "e"));
  EXPECT_FALSE(fs::exists(a / "e.unfinished"));
  EXPECT_EQ(a.content(), before);
}

// ---- beside training ----

TEST(StoreCheckpointRaceTest, ACheckpointBesideARestoreListsTheGroupsThatItsManifestHas) {
  TestStore a;
  ASSERT_OK(a.Open());
  a.Train(0, 2);
  ASSERT_OK(a.store().Checkpoint(a / "c"));
  for (int i = 0; i < 5; ++i) {
    TestStore b;  // has none of the groups
    ASSERT_OK(b.Open());
    std::thread restorer([&] { EXPECT_TRUE(IsOk(b.store().Restore({a / "c"}))); });
    for (int j = 0; j < 3; ++j) {
      const std::string name = b / StrCat("c", j);
      EXPECT_TRUE(IsOk(b.store().Checkpoint(name)));
      const StatusOr<Verification> found = VerifyCheckpoint(name, nullptr);
      EXPECT_TRUE(IsOk(found.status()));
      EXPECT_TRUE(found->ok()) << found->problems().front();
    }
    restorer.join();
    EXPECT_EQ(b.content(), a.content());
  }
}

TEST(StoreCheckpointRaceTest, CallsBesideCheckpointAndRestoreSeeOneStateOrTheOther) {
  TestStore a;
  ASSERT_OK(a.Open());
  a.Train(0, 3);
  ASSERT_OK(a.store().Checkpoint(a / "first"));
  std::atomic<bool> done{false};
  const auto table = a.MustAdd(1);
  const Keys keys = KeyRange(0, kNumKeys);
  std::thread trainer([&] {
    std::mt19937_64 random(9);
    while (!done) {
      const StatusOr<ApplyResult> applied = TryApply(*table, RandomBatch(random, 50, kNumKeys, kDim));
      EXPECT_TRUE(IsOk(applied.status()));
    }
  });
  std::thread reader([&] {
    while (!done) LookupToTrain(*table, keys);
  });
  for (int i = 0; i < 5; ++i) {
    const std::string name = a / StrCat("c", i);
    EXPECT_TRUE(
        IsOk(i == 0 ? a.store().Checkpoint(name) : a.store().CheckpointDelta(name, a / StrCat("c", i - 1))));
    EXPECT_TRUE(IsOk(a.store().Restore({i % 2 == 0 ? a / "first" : name})));
  }
  done = true;
  trainer.join();
  reader.join();
  ASSERT_OK(a.store().Restore({a / "first"}));
  TestStore b;
  ASSERT_OK(b.Open());
  b.Train(0, 3);
  EXPECT_EQ(a.content(), b.content());
  EXPECT_TRUE(SameTables(*table, *b.MustAdd(1), keys));
}

}  // namespace
}  // namespace damo
