// SPDX-License-Identifier: Apache-2.0
//
// TestStore: a store that can be trained by numbered batches, closed, opened anew, and made to fail; and
// StoreContent: everything that a store has, to be compared.
#ifndef DAMO_TABLE_TEST_STORE_H_
#define DAMO_TABLE_TEST_STORE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/storage/rocksdb_storage.h"
#include "damo/storage/test_faults.h"
#include "damo/table/store.h"
#include "damo/table/test_tables.h"

namespace damo {

// Every row of a store in its stored form, every step, and every page of a filter.
struct StoreContent {
  std::map<std::pair<int, uint64_t>, std::string> rows;
  std::map<int, std::pair<int64_t, int64_t>> states;
  std::map<std::string, std::string> filter_pages;

  bool operator==(const StoreContent& other) const {
    return rows == other.rows && states == other.states && filter_pages == other.filter_pages;
  }
};

inline void PrintTo(const StoreContent& content, std::ostream* out) {
  *out << content.rows.size() << " rows, " << content.filter_pages.size() << " pages of filters, ";
  for (const auto& [group, state] : content.states) {
    *out << "group " << group << " at step " << state.first << " with " << state.second << " rows; ";
  }
}

inline StoreContent ContentOf(const Store& store) {
  StoreContent content;
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

// How a TestStore is opened.
struct StoreSetting {
  std::string name;
  bool row_cache;
  Durability durability;
};

inline void PrintTo(const StoreSetting& setting, std::ostream* out) { *out << setting.name; }

// A store that can be opened, trained by numbered batches, and made to fail.
class TestStore {
 public:
  static constexpr int64_t kDim = 3;
  static constexpr uint64_t kNumKeys = 400;
  static constexpr int kFilteredGroup = 3;

  static GroupConfig Config(int group, int64_t dim = kDim, const std::string& optimizer = "adam") {
    return TableConfig(group, dim, optimizer, "random_normal");
  }

  // One whose keys get rows when they have occurred three times. Its filter is of two pages.
  static GroupConfig FilteredConfig() {
    GroupConfig config = Config(kFilteredGroup);
    config.min_count = 3;
    config.filter_capacity = 1000;
    return config;
  }

  explicit TestStore(StoreSetting setting) : setting_(std::move(setting)) {}
  TestStore() : TestStore(StoreSetting{"wal", true, Durability::kWal}) {}

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

  StoreContent content() const { return ContentOf(*store_); }
  Store& store() { return *store_; }
  FaultPlan& plan() { return *plan_; }
  std::string path() const { return directory_ / "store"; }
  std::string operator/(const std::string& name) const { return directory_ / name; }

 private:
  const StoreSetting setting_;
  const TestDirectory directory_;
  std::shared_ptr<FaultPlan> plan_ = std::make_shared<FaultPlan>();
  FaultEnv env_{plan_};
  std::unique_ptr<Store> store_;
};

}  // namespace damo

#endif  // DAMO_TABLE_TEST_STORE_H_
