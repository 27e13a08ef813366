// SPDX-License-Identifier: Apache-2.0
//
// What every Storage does with sorted batches: all of one is there or nothing, in order with other writes.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "damo/base/test_status.h"
#include "damo/storage/test_storage.h"

namespace damo {
namespace {

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
  ExpectVersionsAreReadWhole(keys, kBatches, commit_version);
}

}  // namespace
}  // namespace damo
