// SPDX-License-Identifier: Apache-2.0
//
// What every Storage does, run over every implementation and every durability.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <ostream>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/row/row_codec.h"
#include "damo/storage/memory_storage.h"
#include "damo/storage/rocksdb_storage.h"
#include "damo/storage/storage.h"

namespace damo {
namespace {

using Rows = std::vector<std::optional<std::string>>;
using Values = std::vector<std::pair<std::string, std::string>>;
using KeyedRows = std::vector<std::pair<uint64_t, std::string>>;

struct Implementation {
  std::string name;
  std::optional<Durability> durability;  // nullopt: in memory
};

void PrintTo(const Implementation& implementation, std::ostream* out) { *out << implementation.name; }

class StorageTest : public testing::TestWithParam<Implementation> {
 protected:
  void SetUp() override { Open(); }

  bool Persistent() const { return GetParam().durability.has_value(); }

  // Closes and opens again where rows outlive the storage.
  void Reopen() {
    if (!Persistent()) return;
    ASSERT_OK(storage_->Close());
    Open();
  }

  void Write(const std::function<void(StorageBatch&)>& fill) {
    const std::unique_ptr<StorageBatch> batch = storage_->NewBatch();
    fill(*batch);
    ASSERT_OK(storage_->Write(*batch));
  }

  void Put(uint8_t group, uint64_t key, std::string_view row) {
    Write([&](StorageBatch& batch) { ASSERT_OK(batch.PutRow(group, key, row)); });
  }

  std::unique_ptr<SortedBatch> NewSortedBatch() {
    StatusOr<std::unique_ptr<SortedBatch>> batch = storage_->NewSortedBatch();
    EXPECT_TRUE(IsOk(batch.status()));
    return std::move(*batch);
  }

  Rows Get(uint8_t group, const std::vector<uint64_t>& keys) const {
    Rows rows;
    const Status status =
        storage_->MultiGet(group, keys, [&](size_t index, std::optional<std::string_view> row) {
          EXPECT_EQ(index, rows.size());
          rows.push_back(row ? std::optional<std::string>(*row) : std::nullopt);
          return Status();
        });
    EXPECT_TRUE(IsOk(status));
    return rows;
  }

  KeyedRows ScanAll(uint8_t group) const {
    KeyedRows rows;
    const Status status = storage_->Scan(group, [&](uint64_t key, std::string_view row) {
      rows.emplace_back(key, row);
      return Status();
    });
    EXPECT_TRUE(IsOk(status));
    return rows;
  }

  std::optional<std::string> Manifest(std::string_view name) const {
    const StatusOr<std::optional<std::string>> value = storage_->GetManifest(name);
    EXPECT_TRUE(IsOk(value.status()));
    return value.ok() ? *value : std::nullopt;
  }

  static Values ManifestOf(const Storage& storage) {
    Values values;
    const StatusOr<std::unique_ptr<StorageSnapshot>> snapshot = storage.NewSnapshot();
    EXPECT_TRUE(IsOk(snapshot.status()));
    EXPECT_TRUE(IsOk((*snapshot)->ScanManifest([&](std::string_view name, std::string_view value) {
      values.emplace_back(name, value);
      return Status();
    })));
    return values;
  }

  TestDirectory directory_;
  std::unique_ptr<Storage> storage_;

 private:
  void Open() {
    if (!Persistent()) {
      storage_ = NewMemoryStorage();
      return;
    }
    RocksDbStorageOptions options;
    options.memory_budget = StoreOptions::kMinMemoryBudget;  // so that large tests flush and compact
    options.durability = *GetParam().durability;
    StatusOr<std::unique_ptr<Storage>> storage = OpenRocksDbStorage(directory_ / "store", options);
    ASSERT_OK(storage.status());
    storage_ = std::move(*storage);
  }
};

TEST_P(StorageTest, AbsentKeysAndValuesReadAsNullopt) {
  EXPECT_EQ(Get(0, {1, 2, 3}), Rows(3));
  EXPECT_EQ(Manifest("absent"), std::nullopt);
  EXPECT_TRUE(ScanAll(0).empty());
}

TEST_P(StorageTest, NoKeysVisitNothing) {
  Put(0, 1, "row");
  EXPECT_TRUE(Get(0, {}).empty());
}

TEST_P(StorageTest, SmallestAndLargestKeysAreOrdinary) {
  for (const uint8_t group : {uint8_t{0}, uint8_t{255}}) {
    Put(group, 0, "zero");
    Put(group, UINT64_MAX, "max");
    EXPECT_EQ(Get(group, {0, 1, UINT64_MAX - 1, UINT64_MAX}), (Rows{"zero", {}, {}, "max"}));
    EXPECT_EQ(ScanAll(group), (KeyedRows{{0, "zero"}, {UINT64_MAX, "max"}}));
  }
}

TEST_P(StorageTest, ScanBeginsAtTheKeyAskedFor) {
  for (const uint64_t key : {uint64_t{1}, uint64_t{5}, UINT64_MAX}) Put(4, key, std::to_string(key));
  Put(5, 2, "of the next group");
  const auto keys_from = [&](uint64_t first_key) {
    std::vector<uint64_t> keys;
    const auto snapshot = storage_->NewSnapshot();
    EXPECT_TRUE(IsOk(snapshot.status()));
    EXPECT_TRUE(IsOk((*snapshot)->ScanFrom(4, first_key, [&](uint64_t key, std::string_view /*row*/) {
      keys.push_back(key);
      return Status();
    })));
    return keys;
  };
  EXPECT_EQ(keys_from(0), (std::vector<uint64_t>{1, 5, UINT64_MAX}));
  EXPECT_EQ(keys_from(5), (std::vector<uint64_t>{5, UINT64_MAX}));
  EXPECT_EQ(keys_from(UINT64_MAX), (std::vector<uint64_t>{UINT64_MAX}));
}

std::string RowOf(uint8_t group, uint64_t key, int64_t update_time) {
  std::string row(RowLayout(1, 0).row_bytes(), '\0');
  EncodeRowHeader({group, key, update_time, 1}, row.data());
  return row;
}

TEST_P(StorageTest, ReleasedRowsAreGoneAfterACompactionAndNoOthers) {
  for (const uint8_t group : {uint8_t{4}, uint8_t{255}}) {
    for (uint64_t key = 0; key < 3; ++key) Put(group, key, RowOf(group, key, 10 * static_cast<int64_t>(key)));
    Put(group, 3, "no row");
  }
  const auto keys_of = [&](uint8_t group) {
    std::vector<uint64_t> keys;
    for (const auto& [key, row] : ScanAll(group)) keys.push_back(key);
    return keys;
  };
  for (const uint8_t group : {uint8_t{255}, uint8_t{4}}) {
    storage_->ReleaseRows(group, 10);
    storage_->ReleaseRows(group, 5);  // changes nothing
    ASSERT_OK(storage_->Compact({&group, 1}, nullptr));
    EXPECT_EQ(keys_of(group), (std::vector<uint64_t>{2, 3}));
    Reopen();
    EXPECT_EQ(keys_of(group), (std::vector<uint64_t>{2, 3}));
    EXPECT_EQ(keys_of(4).size(), group == 4 ? 2 : 4);
  }
}

TEST_P(StorageTest, CompactionTellsHowFarItIsAndEndsWhenItIsToldTo) {
  if (!Persistent()) return;  // has no files
  const std::vector<uint8_t> groups = {1, 2};
  for (const uint8_t group : groups) Put(group, 7, std::string(1000, 'r'));
  ASSERT_OK(storage_->Flush());
  uint64_t last = 0;
  uint64_t total = 0;
  ASSERT_OK(storage_->Compact(groups, [&](uint64_t num_bytes, uint64_t num_total) {
    EXPECT_GE(num_bytes, last);
    last = num_bytes;
    total = num_total;
    return Status();
  }));
  EXPECT_EQ(last, total);
  EXPECT_GT(total, 2000);
  const Status stopped = storage_->Compact(groups, [](uint64_t, uint64_t) { return Internal("enough"); });
  EXPECT_TRUE(FailsWith(stopped, StatusCode::kInternal, "enough"));
  EXPECT_EQ(Get(1, {7}), Rows{std::string(1000, 'r')});
}

TEST_P(StorageTest, GroupsAreIsolated) {
  for (const int group : {0, 1, 127, 128, 254, 255}) {
    Put(static_cast<uint8_t>(group), 7, "of group " + std::to_string(group));
    Put(static_cast<uint8_t>(group), UINT64_MAX, "last of group " + std::to_string(group));
  }
  EXPECT_EQ(Get(2, {7}), Rows(1));
  for (const int group : {0, 1, 127, 128, 254, 255}) {
    const std::string row = "of group " + std::to_string(group);
    EXPECT_EQ(Get(static_cast<uint8_t>(group), {7}), (Rows{row}));
    EXPECT_EQ(ScanAll(static_cast<uint8_t>(group)), (KeyedRows{{7, row}, {UINT64_MAX, "last " + row}}));
  }
  Write([](StorageBatch& batch) { ASSERT_OK(batch.DeleteRow(127, 7)); });
  EXPECT_EQ(Get(127, {7}), Rows(1));
  EXPECT_EQ(Get(128, {7}), (Rows{"of group 128"}));
}

TEST_P(StorageTest, RowsAreOverwrittenAndDeleted) {
  Put(3, 5, "first");
  Put(3, 5, "second, longer");
  EXPECT_EQ(Get(3, {5}), (Rows{"second, longer"}));
  Write([](StorageBatch& batch) { ASSERT_OK(batch.DeleteRow(3, 5)); });
  EXPECT_EQ(Get(3, {5}), Rows(1));
  EXPECT_TRUE(ScanAll(3).empty());
  Write([](StorageBatch& batch) { ASSERT_OK(batch.DeleteRow(3, 5)); });  // of an absent row: legal
  Put(3, 5, "third");
  EXPECT_EQ(Get(3, {5}), (Rows{"third"}));
}

TEST_P(StorageTest, LastWriteToAKeyInABatchCounts) {
  Write([](StorageBatch& batch) {
    ASSERT_OK(batch.PutRow(0, 1, "put"));
    ASSERT_OK(batch.DeleteRow(0, 1));
    ASSERT_OK(batch.DeleteRow(0, 2));
    ASSERT_OK(batch.PutRow(0, 2, "put after delete"));
    ASSERT_OK(batch.PutManifest("name", "first"));
    ASSERT_OK(batch.PutManifest("name", "second"));
  });
  EXPECT_EQ(Get(0, {1, 2}), (Rows{{}, "put after delete"}));
  EXPECT_EQ(Manifest("name"), "second");
}

TEST_P(StorageTest, BytesComeBackAsTheyWere) {
  const std::string all_bytes = [] {
    std::string bytes(256, '\0');
    std::iota(bytes.begin(), bytes.end(), '\0');
    return bytes;
  }();
  const std::string name("na\0me", 5);
  Write([&](StorageBatch& batch) {
    ASSERT_OK(batch.PutRow(0, 0, ""));
    ASSERT_OK(batch.PutRow(0, 1, std::string_view("\0", 1)));
    ASSERT_OK(batch.PutRow(0, 2, all_bytes));
    ASSERT_OK(batch.PutRow(0, 3, std::string(1 << 20, '\xff')));
    ASSERT_OK(batch.PutManifest(name, all_bytes));
    ASSERT_OK(batch.PutManifest("empty", ""));
  });
  Reopen();
  EXPECT_EQ(Get(0, {0, 1, 2, 3}), (Rows{"", std::string(1, '\0'), all_bytes, std::string(1 << 20, '\xff')}));
  EXPECT_EQ(Manifest(name), all_bytes);
  EXPECT_EQ(Manifest("na"), std::nullopt);
  EXPECT_EQ(Manifest("empty"), "");
}

TEST_P(StorageTest, BatchCopiesWhatItIsGiven) {
  const std::unique_ptr<StorageBatch> batch = storage_->NewBatch();
  std::string row = "row";
  std::string value = "value";
  ASSERT_OK(batch->PutRow(0, 1, row));
  ASSERT_OK(batch->PutManifest("name", value));
  row = "xxx";
  value = "xxxxx";
  ASSERT_OK(storage_->Write(*batch));
  EXPECT_EQ(Get(0, {1}), (Rows{"row"}));
  EXPECT_EQ(Manifest("name"), "value");
}

TEST_P(StorageTest, BatchShowsNothingBeforeItIsWritten) {
  const std::unique_ptr<StorageBatch> batch = storage_->NewBatch();
  ASSERT_OK(batch->PutRow(0, 1, "row"));
  ASSERT_OK(batch->PutManifest("name", "value"));
  EXPECT_EQ(Get(0, {1}), Rows(1));
  EXPECT_EQ(Manifest("name"), std::nullopt);
  ASSERT_OK(storage_->Write(*batch));
  EXPECT_EQ(Get(0, {1}), (Rows{"row"}));
  EXPECT_EQ(Manifest("name"), "value");
}

TEST_P(StorageTest, EmptyBatchIsLegal) {
  Put(0, 1, "row");
  Write([](StorageBatch&) {});
  EXPECT_EQ(ScanAll(0), (KeyedRows{{1, "row"}}));
}

TEST_P(StorageTest, LargeMultiGetVisitsEveryKeyInOrder) {
  constexpr uint64_t kKeys = 50000;
  std::vector<uint64_t> keys;
  Rows expected;
  Write([&](StorageBatch& batch) {
    for (uint64_t i = 0; i < kKeys; ++i) {
      const uint64_t key = i * 368934881474191;  // spread over the whole range
      keys.push_back(key);
      expected.push_back(i % 3 == 0 ? std::nullopt : std::optional("row " + std::to_string(key)));
      if (!expected.back()) continue;
      ASSERT_OK(batch.PutRow(9, key, *expected.back()));
    }
  });
  EXPECT_EQ(Get(9, keys), expected);
  Reopen();
  EXPECT_EQ(Get(9, keys), expected);
}

TEST_P(StorageTest, KeysOutOfOrderAreRefusedBeforeAnyVisit) {
  for (const std::vector<uint64_t>& keys : {std::vector<uint64_t>{5, 4}, std::vector<uint64_t>{4, 4}}) {
    const Status status = storage_->MultiGet(0, keys, [](size_t, std::optional<std::string_view>) {
      ADD_FAILURE() << "visited";
      return Status();
    });
    EXPECT_TRUE(FailsWith(status, StatusCode::kInternal, "keys must be strictly ascending"));
  }
}

TEST_P(StorageTest, FailureOfAVisitorStopsTheRead) {
  Write([](StorageBatch& batch) {
    for (uint64_t key = 0; key < 1000; ++key) ASSERT_OK(batch.PutRow(0, key, "row"));
  });
  std::vector<uint64_t> keys(1000);
  std::iota(keys.begin(), keys.end(), uint64_t{0});
  size_t num_visits = 0;
  const auto fail_at_700 = [&] { return ++num_visits == 700 ? DataLoss("row 699 is bad") : Status(); };

  Status status =
      storage_->MultiGet(0, keys, [&](size_t, std::optional<std::string_view>) { return fail_at_700(); });
  EXPECT_TRUE(FailsWith(status, StatusCode::kDataLoss, "row 699 is bad"));
  EXPECT_EQ(num_visits, 700u);

  num_visits = 0;
  status = storage_->Scan(0, [&](uint64_t, std::string_view) { return fail_at_700(); });
  EXPECT_TRUE(FailsWith(status, StatusCode::kDataLoss, "row 699 is bad"));
  EXPECT_EQ(num_visits, 700u);
}

TEST_P(StorageTest, ReadsShowOneMomentWhileTheirVisitorWrites) {
  constexpr uint64_t kKeys = 1000;
  std::vector<uint64_t> keys(kKeys);
  std::iota(keys.begin(), keys.end(), uint64_t{0});
  const auto write_all = [&](const std::string& row) {
    Write([&](StorageBatch& batch) {
      for (const uint64_t key : keys) ASSERT_OK(batch.PutRow(0, key, row));
      ASSERT_OK(batch.PutRow(0, kKeys, row));
    });
  };
  write_all("old");

  uint64_t num_rows = 0;
  ASSERT_OK(storage_->Scan(0, [&](uint64_t key, std::string_view row) {
    if (key == 0) write_all("new");
    EXPECT_EQ(row, "old");
    ++num_rows;
    return Status();
  }));
  EXPECT_EQ(num_rows, kKeys + 1);

  ASSERT_OK(storage_->MultiGet(0, keys, [&](size_t index, std::optional<std::string_view> row) {
    if (index == 0) write_all("newer");
    EXPECT_EQ(row, "new");
    return Status();
  }));
  EXPECT_EQ(Get(0, {kKeys - 1}), (Rows{"newer"}));
}

TEST_P(StorageTest, BatchesAreNeverSeenInPart) {
  constexpr int kBatches = 150;
  std::vector<uint64_t> keys(600);
  std::iota(keys.begin(), keys.end(), uint64_t{0});
  const auto write_version = [&](int version) {
    Write([&](StorageBatch& batch) {
      for (const uint64_t key : keys) ASSERT_OK(batch.PutRow(0, key, std::to_string(version)));
    });
  };
  write_version(0);
  std::atomic<bool> finished{false};
  std::thread writer([&] {
    for (int version = 1; version <= kBatches; ++version) write_version(version);
    finished = true;
  });
  while (!finished) {
    const Rows rows = Get(0, keys);
    EXPECT_EQ(rows, Rows(keys.size(), rows[0]));
    const KeyedRows scanned = ScanAll(0);
    for (const auto& [key, row] : scanned) EXPECT_EQ(row, scanned[0].second) << "key " << key;
  }
  writer.join();
  EXPECT_EQ(Get(0, {599}), (Rows{std::to_string(kBatches)}));
}

TEST_P(StorageTest, ManyThreadsReadAndWrite) {
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([this, thread] {
      const auto group = static_cast<uint8_t>(thread);
      for (uint64_t key = 0; key < 200; ++key) {
        Put(group, key, std::to_string(key));
        ASSERT_EQ(Get(group, {key}), (Rows{std::to_string(key)}));
      }
      ASSERT_EQ(ScanAll(group).size(), 200u);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// ---- sorted batches ----

TEST_P(StorageTest, SortedBatchShowsNothingBeforeItsCommitAndAllOfItAfterwards) {
  Put(0, 2, "old");
  Put(0, 3, "to be deleted");
  Put(7, 1, "to stay");
  std::unique_ptr<SortedBatch> batch = NewSortedBatch();
  ASSERT_OK(batch->PutManifest("step", "1"));
  ASSERT_OK(batch->PutRow(0, 0, ""));
  ASSERT_OK(batch->PutRow(0, 2, "new"));
  ASSERT_OK(batch->DeleteRow(0, 3));
  ASSERT_OK(batch->DeleteRow(0, 4));  // of an absent row: legal
  ASSERT_OK(batch->PutRow(0, UINT64_MAX, "last"));
  ASSERT_OK(batch->PutRow(255, 0, "of another group"));
  ASSERT_OK(batch->PutManifest("epoch", "5"));
  ASSERT_OK(batch->PutManifest("step", "2"));
  EXPECT_EQ(Get(0, {0, 2, 3, UINT64_MAX}), (Rows{{}, "old", "to be deleted", {}}));
  EXPECT_EQ(Manifest("step"), std::nullopt);
  ASSERT_OK(batch->Commit());
  batch.reset();
  for (int opening = 0; opening < 2; ++opening) {
    EXPECT_EQ(ScanAll(0), (KeyedRows{{0, ""}, {2, "new"}, {UINT64_MAX, "last"}}));
    EXPECT_EQ(Get(0, {0, 2, 3, 4, UINT64_MAX}), (Rows{"", "new", {}, {}, "last"}));
    EXPECT_EQ(Get(7, {1}), (Rows{"to stay"}));
    EXPECT_EQ(Get(255, {0}), (Rows{"of another group"}));
    EXPECT_EQ(Manifest("step"), "2");
    EXPECT_EQ(Manifest("epoch"), "5");
    ASSERT_NO_FATAL_FAILURE(Reopen());
  }
}

TEST_P(StorageTest, WritesAndSortedBatchesHideEachOtherInTheOrderTheyWereMade) {
  const auto commit = [this](const std::string& row) {
    const std::unique_ptr<SortedBatch> batch = NewSortedBatch();
    ASSERT_OK(batch->PutRow(0, 1, row));
    ASSERT_OK(batch->PutManifest("name", row));
    ASSERT_OK(batch->Commit());
  };
  const auto write = [this](const std::string& row) {
    Write([&](StorageBatch& batch) {
      ASSERT_OK(batch.PutRow(0, 1, row));
      ASSERT_OK(batch.PutManifest("name", row));
    });
  };
  for (int round = 0; round < 5; ++round) {
    write("written");
    commit("committed");
    EXPECT_EQ(Get(0, {1}), (Rows{"committed"}));
    EXPECT_EQ(Manifest("name"), "committed");
    commit("committed again");
    EXPECT_EQ(Get(0, {1}), (Rows{"committed again"}));
    write("written again");
    EXPECT_EQ(Get(0, {1}), (Rows{"written again"}));
    EXPECT_EQ(Manifest("name"), "written again");
    ASSERT_NO_FATAL_FAILURE(Reopen());
    EXPECT_EQ(Get(0, {1}), (Rows{"written again"}));
    EXPECT_EQ(Manifest("name"), "written again");
  }
}

TEST_P(StorageTest, SortedBatchOfRowsOnlyOfTheManifestOnlyAndOfNothing) {
  std::unique_ptr<SortedBatch> batch = NewSortedBatch();
  ASSERT_OK(batch->Commit());
  batch = NewSortedBatch();
  ASSERT_OK(batch->PutRow(0, 1, "row"));
  ASSERT_OK(batch->Commit());
  batch = NewSortedBatch();
  ASSERT_OK(batch->PutManifest(std::string_view("na\0me", 5), ""));
  ASSERT_OK(batch->Commit());
  batch.reset();
  ASSERT_NO_FATAL_FAILURE(Reopen());
  EXPECT_EQ(ScanAll(0), (KeyedRows{{1, "row"}}));
  EXPECT_EQ(Manifest(std::string_view("na\0me", 5)), "");
  EXPECT_EQ(Manifest("na"), std::nullopt);
}

TEST_P(StorageTest, RowsOutOfOrderAreRefusedAndTheirBatchIsNeverCommitted) {
  using At = std::pair<uint8_t, uint64_t>;
  for (const auto& [first, second] :
       {std::pair(At(1, 5), At(1, 4)), std::pair(At(1, 5), At(1, 5)), std::pair(At(1, 5), At(0, 9))}) {
    for (const bool deletes : {false, true}) {
      const std::unique_ptr<SortedBatch> batch = NewSortedBatch();
      ASSERT_OK(batch->PutManifest("name", "value"));
      ASSERT_OK(batch->PutRow(first.first, first.second, "row"));
      const Status status = deletes ? batch->DeleteRow(second.first, second.second)
                                    : batch->PutRow(second.first, second.second, "row");
      EXPECT_TRUE(FailsWith(status, StatusCode::kInternal,
                            StrCat("rows of a sorted batch must be in strictly ascending order. Received: "
                                   "group ",
                                   int{second.first}, " key ", second.second, " after group 1 key 5")));
      EXPECT_TRUE(FailsWith(batch->Commit(), StatusCode::kInternal, "strictly ascending order"));
    }
  }
  EXPECT_TRUE(ScanAll(1).empty());
  EXPECT_EQ(Manifest("name"), std::nullopt);
}

TEST_P(StorageTest, SortedBatchWithoutCommitLeavesNothing) {
  {
    const std::unique_ptr<SortedBatch> batch = NewSortedBatch();
    ASSERT_OK(batch->PutRow(0, 1, "row"));
    ASSERT_OK(batch->PutManifest("name", "value"));
  }
  ASSERT_NO_FATAL_FAILURE(Reopen());
  EXPECT_EQ(Get(0, {1}), Rows(1));
  EXPECT_EQ(Manifest("name"), std::nullopt);
}

TEST_P(StorageTest, SortedBatchKeepsCopies) {
  const std::unique_ptr<SortedBatch> batch = NewSortedBatch();
  std::string row = "row";
  std::string value = "value";
  ASSERT_OK(batch->PutRow(0, 1, row));
  ASSERT_OK(batch->PutManifest("name", value));
  row = "xxx";
  value = "xxxxx";
  ASSERT_OK(batch->Commit());
  EXPECT_EQ(Get(0, {1}), (Rows{"row"}));
  EXPECT_EQ(Manifest("name"), "value");
}

TEST_P(StorageTest, ReadsShowOneMomentWhileTheirVisitorCommitsASortedBatch) {
  std::vector<uint64_t> keys(1000);
  std::iota(keys.begin(), keys.end(), uint64_t{0});
  const auto commit_all = [&](const std::string& row) {
    const std::unique_ptr<SortedBatch> batch = NewSortedBatch();
    for (const uint64_t key : keys) ASSERT_OK(batch->PutRow(0, key, row));
    ASSERT_OK(batch->Commit());
  };
  commit_all("old");
  ASSERT_OK(storage_->Scan(0, [&](uint64_t key, std::string_view row) {
    if (key == 0) commit_all("new");
    EXPECT_EQ(row, "old");
    return Status();
  }));
  ASSERT_OK(storage_->MultiGet(0, keys, [&](size_t index, std::optional<std::string_view> row) {
    if (index == 0) commit_all("newer");
    EXPECT_EQ(row, "new");
    return Status();
  }));
  EXPECT_EQ(Get(0, {999}), (Rows{"newer"}));
}

TEST_P(StorageTest, SortedBatchesAreNeverSeenInPart) {
  constexpr int kBatches = 40;
  std::vector<uint64_t> keys(600);
  std::iota(keys.begin(), keys.end(), uint64_t{0});
  const auto commit_version = [&](int version) {
    const std::unique_ptr<SortedBatch> batch = NewSortedBatch();
    for (const uint64_t key : keys) ASSERT_OK(batch->PutRow(0, key, std::to_string(version)));
    ASSERT_OK(batch->Commit());
  };
  commit_version(0);
  std::atomic<bool> finished{false};
  std::thread writer([&] {
    for (int version = 1; version <= kBatches; ++version) commit_version(version);
    finished = true;
  });
  while (!finished) {
    const Rows rows = Get(0, keys);
    EXPECT_EQ(rows, Rows(keys.size(), rows[0]));
    const KeyedRows scanned = ScanAll(0);
    for (const auto& [key, row] : scanned) EXPECT_EQ(row, scanned[0].second) << "key " << key;
  }
  writer.join();
  EXPECT_EQ(Get(0, {599}), (Rows{std::to_string(kBatches)}));
}

// ---- deletion and visiting of manifest values ----

TEST_P(StorageTest, ManifestValuesAreDeletedByEitherKindOfBatch) {
  Write([](StorageBatch& batch) {
    for (const char* const name : {"a", "b", "c"}) ASSERT_OK(batch.PutManifest(name, "value"));
  });
  Write([](StorageBatch& batch) {
    ASSERT_OK(batch.DeleteManifest("a"));
    ASSERT_OK(batch.DeleteManifest("absent"));
  });
  std::unique_ptr<SortedBatch> batch = NewSortedBatch();
  ASSERT_OK(batch->DeleteManifest("b"));
  ASSERT_OK(batch->PutManifest("c", "other"));
  ASSERT_OK(batch->DeleteManifest("c"));
  ASSERT_OK(batch->Commit());
  batch.reset();  // before the storage is closed
  ASSERT_NO_FATAL_FAILURE(Reopen());
  EXPECT_TRUE(ManifestOf(*storage_).empty());
}

TEST_P(StorageTest, SnapshotShowsManifestAndRowsOfItsMoment) {
  Write([](StorageBatch& batch) {
    ASSERT_OK(batch.PutManifest("b", "old"));
    ASSERT_OK(batch.PutManifest("a", std::string("\0", 1)));
    ASSERT_OK(batch.PutRow(1, 5, "old"));
  });
  StatusOr<std::unique_ptr<StorageSnapshot>> snapshot = storage_->NewSnapshot();
  ASSERT_OK(snapshot.status());
  Write([](StorageBatch& batch) {
    ASSERT_OK(batch.PutManifest("b", "new"));
    ASSERT_OK(batch.DeleteManifest("a"));
    ASSERT_OK(batch.PutRow(1, 5, "new"));
    ASSERT_OK(batch.PutRow(1, 6, "new"));
  });
  const Values before = {{"a", std::string("\0", 1)}, {"b", "old"}};
  Values visited;
  ASSERT_OK((*snapshot)->ScanManifest([&](std::string_view name, std::string_view value) {
    visited.emplace_back(name, value);
    return Status();
  }));
  EXPECT_EQ(visited, before);
  EXPECT_EQ(ManifestOf(*storage_), (Values{{"b", "new"}}));
  const std::unique_ptr<RowCursor> cursor = (*snapshot)->NewCursor(1);
  ASSERT_TRUE(cursor->Next());
  EXPECT_EQ(cursor->key(), 5);
  EXPECT_EQ(cursor->row(), "old");
  EXPECT_FALSE(cursor->Next());
  EXPECT_TRUE(IsOk(cursor->status()));
}

TEST_P(StorageTest, CursorsStayInTheirGroup) {
  for (const int group : {0, 1, 255}) {
    Put(static_cast<uint8_t>(group), 0, "first");
    Put(static_cast<uint8_t>(group), UINT64_MAX, "last");
  }
  StatusOr<std::unique_ptr<StorageSnapshot>> snapshot = storage_->NewSnapshot();
  ASSERT_OK(snapshot.status());
  for (const int group : {0, 1, 255}) {
    const std::unique_ptr<RowCursor> cursor = (*snapshot)->NewCursor(static_cast<uint8_t>(group));
    ASSERT_TRUE(cursor->Next());
    EXPECT_EQ(cursor->key(), 0);
    ASSERT_TRUE(cursor->Next());
    EXPECT_EQ(cursor->key(), UINT64_MAX);
    EXPECT_FALSE(cursor->Next());
  }
  EXPECT_FALSE((*snapshot)->NewCursor(7)->Next());
}

TEST_P(StorageTest, FinishedSortedBatchIsInvisibleUntilItIsCommitted) {
  const std::unique_ptr<SortedBatch> batch = NewSortedBatch();
  ASSERT_OK(batch->PutRow(0, 1, "row"));
  ASSERT_OK(batch->PutManifest("name", "value"));
  ASSERT_OK(batch->Finish());
  EXPECT_EQ(Get(0, {1}), Rows(1));
  EXPECT_EQ(Manifest("name"), std::nullopt);
  ASSERT_OK(batch->Commit());
  EXPECT_EQ(Get(0, {1}), (Rows{"row"}));
  EXPECT_EQ(Manifest("name"), "value");
}

// ---- images ----

TEST_P(StorageTest, ImageBecomesAStorageAsOfItsMoment) {
  if (!Persistent()) {
    EXPECT_TRUE(FailsWith(storage_->NewImage().status(), StatusCode::kFailedPrecondition, "has no files"));
    return;
  }
  const auto write = [&](const std::string& row) {
    const std::unique_ptr<SortedBatch> batch = NewSortedBatch();
    for (uint64_t key = 0; key < 5000; ++key) ASSERT_OK(batch->PutRow(1, key, row));
    ASSERT_OK(batch->PutManifest("name", row));
    ASSERT_OK(batch->Commit());
    Put(2, 7, row);  // by way of the memtable
  };
  write("old");
  StatusOr<std::unique_ptr<StorageImage>> image = storage_->NewImage();
  ASSERT_OK(image.status());
  for (int i = 0; i < 6; ++i) write("new");  // so often that the files of before are compacted away
  const std::string copy = directory_ / "copy";
  ASSERT_TRUE(std::filesystem::create_directory(copy));
  uint64_t num_written = 0;
  uint64_t num_to_write = 0;
  const auto note = [&](uint64_t num_bytes, uint64_t num_total) {
    num_written = num_bytes;
    num_to_write = num_total;
    return Status();
  };
  const StatusOr<std::vector<StorageFile>> files = (*image)->WriteTo(copy, note);
  ASSERT_OK(files.status());
  EXPECT_EQ(num_written, num_to_write);
  for (const StorageFile& file : *files) {
    num_written -= file.bytes;
    EXPECT_EQ(std::filesystem::file_size(copy + "/" + file.name), file.bytes);
  }
  EXPECT_EQ(num_written, 0) << "all bytes were told of";
  image->reset();
  ASSERT_NO_FATAL_FAILURE(Reopen());
  EXPECT_EQ(Get(1, {0, 4999}), (Rows{"new", "new"}));

  StatusOr<std::unique_ptr<Storage>> opened = OpenRocksDbStorage(copy, RocksDbStorageOptions());
  ASSERT_OK(opened.status());
  storage_ = std::move(*opened);
  EXPECT_EQ(ScanAll(1).size(), 5000);
  EXPECT_EQ(Get(1, {0, 4999}), (Rows{"old", "old"}));
  EXPECT_EQ(Get(2, {7}), (Rows{"old"}));
  EXPECT_EQ(Manifest("name"), "old");
}

TEST_P(StorageTest, NewStorageBesideItIsEmptyAndKeepsWhatItGets) {
  const std::string path = directory_ / "beside";
  StatusOr<std::unique_ptr<Storage>> made = storage_->NewStorageIn(path);
  if (!Persistent()) {
    EXPECT_TRUE(FailsWith(made.status(), StatusCode::kFailedPrecondition, "has no files"));
    return;
  }
  ASSERT_OK(made.status());
  Put(1, 7, "another's");
  storage_ = std::move(*made);
  EXPECT_EQ(ScanAll(1).size(), 0);
  Put(1, 7, "row");
  ASSERT_OK(storage_->Close());
  StatusOr<std::unique_ptr<Storage>> opened = OpenRocksDbStorage(path, RocksDbStorageOptions());
  ASSERT_OK(opened.status());
  storage_ = std::move(*opened);
  EXPECT_EQ(Get(1, {7}), (Rows{"row"}));
}

TEST_P(StorageTest, FlushAndStatsSucceed) {
  Put(0, 1, "row");
  ASSERT_OK(storage_->Flush());
  const StatusOr<StorageStats> stats = storage_->Stats();
  ASSERT_OK(stats.status());
  EXPECT_EQ(stats->disk_bytes > 0, Persistent());
  EXPECT_EQ(Get(0, {1}), (Rows{"row"}));
}

// ---- random operations against a plain model ----

// DAMO_TEST_SEED repeats a run whose seed was printed.
uint32_t TestSeed() {
  const char* const text = std::getenv("DAMO_TEST_SEED");
  return text != nullptr ? static_cast<uint32_t>(std::strtoul(text, nullptr, 10)) : std::random_device()();
}

struct Model {
  std::map<std::pair<uint8_t, uint64_t>, std::string> rows;
  std::map<std::string, std::string> manifest;
};

class StorageModelTest : public StorageTest {
 protected:
  static constexpr uint8_t kGroups[] = {0, 1, 255};

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  uint8_t RandomGroup() { return kGroups[Below(3)]; }
  // Of few keys, so that they meet again, at both ends of the range.
  uint64_t RandomKey() { return Below(2) == 0 ? Below(100) : UINT64_MAX - Below(100); }
  std::string RandomRow() {
    const uint64_t size = Below(300);
    return std::string(size, static_cast<char>(Below(256)));
  }

  void WriteRandomBatch() {
    Write([this](StorageBatch& batch) {
      for (uint64_t i = Below(30); i > 0; --i) {
        const std::pair<uint8_t, uint64_t> at{RandomGroup(), RandomKey()};
        if (Below(4) == 0) {
          ASSERT_OK(batch.DeleteRow(at.first, at.second));
          model_.rows.erase(at);
        } else {
          model_.rows[at] = RandomRow();
          ASSERT_OK(batch.PutRow(at.first, at.second, model_.rows[at]));
        }
      }
      if (Below(3) == 0) {
        const std::string name = "name " + std::to_string(Below(5));
        model_.manifest[name] = RandomRow();
        ASSERT_OK(batch.PutManifest(name, model_.manifest[name]));
      }
    });
  }

  void CommitRandomSortedBatch() {
    std::map<std::pair<uint8_t, uint64_t>, std::optional<std::string>> rows;
    for (uint64_t i = Below(60); i > 0; --i) {
      const std::pair<uint8_t, uint64_t> at{RandomGroup(), RandomKey()};
      rows[at] = Below(4) == 0 ? std::nullopt : std::optional(RandomRow());
    }
    const std::unique_ptr<SortedBatch> batch = NewSortedBatch();
    for (const auto& [at, row] : rows) {
      ASSERT_OK(row ? batch->PutRow(at.first, at.second, *row) : batch->DeleteRow(at.first, at.second));
    }
    const std::string name = "name " + std::to_string(Below(5));
    const std::string value = RandomRow();
    ASSERT_OK(batch->PutManifest(name, value));
    if (Below(5) == 0) return;  // given up
    ASSERT_OK(batch->Commit());
    model_.manifest[name] = value;
    for (const auto& [at, row] : rows) {
      if (row) {
        model_.rows[at] = *row;
      } else {
        model_.rows.erase(at);
      }
    }
  }

  void CompareRandomRead() {
    const uint8_t group = RandomGroup();
    std::map<uint64_t, std::optional<std::string>> expected;
    for (uint64_t i = Below(200); i > 0; --i) {
      const uint64_t key = RandomKey();
      const auto found = model_.rows.find({group, key});
      expected[key] = found == model_.rows.end() ? std::nullopt : std::optional(found->second);
    }
    std::vector<uint64_t> keys;
    Rows rows;
    for (const auto& [key, row] : expected) {
      keys.push_back(key);
      rows.push_back(row);
    }
    ASSERT_EQ(Get(group, keys), rows);
  }

  void CompareEverything() {
    for (const uint8_t group : kGroups) {
      KeyedRows expected;
      for (const auto& [at, row] : model_.rows) {
        if (at.first == group) expected.emplace_back(at.second, row);
      }
      ASSERT_EQ(ScanAll(group), expected);
    }
    for (const auto& [name, value] : model_.manifest) ASSERT_EQ(Manifest(name), value);
  }

  const uint32_t seed_ = TestSeed();
  std::mt19937_64 random_{seed_};
  Model model_;
};

TEST_P(StorageModelTest, RandomOperationsMatchAMap) {
  SCOPED_TRACE("DAMO_TEST_SEED=" + std::to_string(seed_));
  for (int step = 0; step < 1500; ++step) {
    switch (Below(20)) {
      case 0:
        ASSERT_OK(storage_->Flush());
        break;
      case 1:
        if (Below(10) != 0) break;
        ASSERT_NO_FATAL_FAILURE(Reopen());
        break;
      case 2:
        ASSERT_NO_FATAL_FAILURE(CompareEverything());
        break;
      case 3:
        ASSERT_NO_FATAL_FAILURE(CommitRandomSortedBatch());
        break;
      case 4:
      case 5:
      case 6:
      case 7:
      case 8:
        ASSERT_NO_FATAL_FAILURE(CompareRandomRead());
        break;
      default:
        ASSERT_NO_FATAL_FAILURE(WriteRandomBatch());
    }
  }
  ASSERT_NO_FATAL_FAILURE(Reopen());
  ASSERT_NO_FATAL_FAILURE(CompareEverything());
}

const Implementation kImplementations[] = {{"Memory", std::nullopt},
                                           {"RocksDbWal", Durability::kWal},
                                           {"RocksDbSync", Durability::kSync},
                                           {"RocksDbCheckpoint", Durability::kCheckpoint}};

std::string NameOf(const testing::TestParamInfo<Implementation>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(All, StorageTest, testing::ValuesIn(kImplementations), NameOf);
INSTANTIATE_TEST_SUITE_P(All, StorageModelTest, testing::ValuesIn(kImplementations), NameOf);

}  // namespace
}  // namespace damo
