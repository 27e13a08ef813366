// SPDX-License-Identifier: Apache-2.0
//
// What every Storage does with rows and values of the manifest: reads, batches, groups, compactions. More of
// it is in the other storage_conformance*_test.cc.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "damo/base/test_status.h"
#include "damo/row/row_codec.h"
#include "damo/storage/test_storage.h"

namespace damo {
namespace {

INSTANTIATE_TEST_SUITE_P(All, StorageTest, testing::ValuesIn(StorageTest::Implementations()),
                         StorageTest::NameOf);

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
  ExpectVersionsAreReadWhole(keys, kBatches, write_version);
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

TEST_P(StorageTest, FlushAndStatsSucceed) {
  Put(0, 1, "row");
  ASSERT_OK(storage_->Flush());
  const StatusOr<StorageStats> stats = storage_->Stats();
  ASSERT_OK(stats.status());
  EXPECT_EQ(stats->disk_bytes > 0, Persistent());
  EXPECT_EQ(Get(0, {1}), (Rows{"row"}));
}

}  // namespace
}  // namespace damo
