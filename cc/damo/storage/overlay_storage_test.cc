// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/overlay_storage.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "damo/base/test_status.h"
#include "damo/storage/memory_storage.h"

namespace damo {
namespace {

using Rows = std::map<uint64_t, std::string>;

class OverlayStorageTest : public testing::Test {
 protected:
  OverlayStorageTest() {
    auto base = NewMemoryStorage();
    base_ = base.get();
    storage_ = NewOverlayStorage(std::move(base), [this]() -> StatusOr<OverlayTop> {
      ++num_tops_;
      DAMO_RETURN_IF_ERROR(top_status_);
      return OverlayTop{nullptr, NewMemoryStorage()};
    });
  }

  static Status Put(Storage& storage, uint8_t group, const Rows& rows) {
    DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<SortedBatch> batch, storage.NewSortedBatch());
    for (const auto& [key, row] : rows) DAMO_RETURN_IF_ERROR(batch->PutRow(group, key, row));
    return batch->Commit();
  }

  // The rows of `keys`, which are told in order.
  Rows Get(uint8_t group, const std::vector<uint64_t>& keys) const {
    Rows rows;
    size_t next = 0;
    EXPECT_TRUE(IsOk(storage_->MultiGet(group, keys, [&](size_t i, std::optional<std::string_view> row) {
      EXPECT_EQ(i, next++);
      if (row) rows[keys[i]] = *row;
      return Status();
    })));
    EXPECT_EQ(next, keys.size());
    return rows;
  }

  Rows ScanFrom(uint8_t group, uint64_t first_key) const {
    Rows rows;
    const auto snapshot = storage_->NewSnapshot();
    EXPECT_TRUE(IsOk(snapshot.status()));
    EXPECT_TRUE(IsOk((*snapshot)->ScanFrom(group, first_key, [&](uint64_t key, std::string_view row) {
      rows[key] = row;
      return Status();
    })));
    return rows;
  }

  Storage* base_;
  int num_tops_ = 0;
  Status top_status_;
  std::unique_ptr<Storage> storage_;
};

TEST_F(OverlayStorageTest, RowsOnTopHideThoseBelowAndTheStorageBelowStaysAsItIs) {
  ASSERT_OK(Put(*base_, 1, {{1, "below"}, {2, "below"}}));
  ASSERT_OK(Put(*base_, 2, {{2, "of another group"}}));
  ASSERT_OK(Put(*storage_, 1, {{2, "on top"}, {3, "on top"}}));
  ASSERT_OK(Put(*storage_, 1, {{3, "again"}}));

  const Rows expected = {{1, "below"}, {2, "on top"}, {3, "again"}};
  EXPECT_EQ(Get(1, {0, 1, 2, 3, 4}), expected);
  EXPECT_EQ(ScanFrom(1, 0), expected);
  EXPECT_EQ(ScanFrom(1, 2), (Rows{{2, "on top"}, {3, "again"}}));
  EXPECT_EQ(ScanFrom(2, 0), (Rows{{2, "of another group"}}));
  Rows below;
  ASSERT_OK(base_->Scan(1, [&](uint64_t key, std::string_view row) {
    below[key] = row;
    return Status();
  }));
  EXPECT_EQ(below, (Rows{{1, "below"}, {2, "below"}}));
}

TEST_F(OverlayStorageTest, AgreesWithAMapOnAnyRows) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  constexpr uint64_t kKeys = 2000;  // several reads
  Rows expected;
  const auto some_rows = [&](const std::string& text) {
    Rows rows;
    for (uint64_t key = 0; key < kKeys; ++key) {
      if (random() % 3 == 0) rows[key] = text + std::to_string(key);
    }
    for (const auto& [key, row] : rows) expected[key] = row;
    return rows;
  };
  ASSERT_OK(Put(*base_, 7, some_rows("below ")));
  for (int i = 0; i < 3; ++i) ASSERT_OK(Put(*storage_, 7, some_rows("on top ")));

  std::vector<uint64_t> keys(kKeys);
  for (uint64_t key = 0; key < kKeys; ++key) keys[key] = key;
  EXPECT_EQ(Get(7, keys), expected);
  EXPECT_EQ(ScanFrom(7, 0), expected);
}

TEST_F(OverlayStorageTest, TheStorageOnTopIsMadeForTheFirstRowAndOnce) {
  ASSERT_OK(Put(*storage_, 1, {}));
  EXPECT_EQ(num_tops_, 0);
  ASSERT_OK(Put(*storage_, 1, {{1, "row"}}));
  ASSERT_OK(Put(*storage_, 1, {{2, "row"}}));
  EXPECT_EQ(num_tops_, 1);
}

TEST_F(OverlayStorageTest, NoPlaceForRowsOnTopIsTheReadersOwnTrouble) {
  top_status_ = IoError("no space left on device");
  EXPECT_TRUE(FailsWith(Put(*storage_, 1, {{1, "row"}}), StatusCode::kFailedPrecondition,
                        "keep rows of the redo log in a temporary directory: no space left on device"));
  EXPECT_EQ(Get(1, {1}), Rows());
}

TEST_F(OverlayStorageTest, NothingButRowsIsPutOnTop) {
  const auto batch = storage_->NewSortedBatch();
  ASSERT_OK(batch.status());
  EXPECT_EQ((*batch)->DeleteRow(1, 1).code(), StatusCode::kInternal);
  EXPECT_EQ((*batch)->PutManifest("seed", "1").code(), StatusCode::kInternal);
  EXPECT_EQ((*batch)->DeleteManifest("seed").code(), StatusCode::kInternal);
}

TEST_F(OverlayStorageTest, ManifestIsTheOneBelow) {
  const std::unique_ptr<StorageBatch> batch = base_->NewBatch();
  ASSERT_OK(batch->PutManifest("seed", "1"));
  ASSERT_OK(base_->Write(*batch));
  ASSERT_OK(Put(*storage_, 1, {{1, "row"}}));

  EXPECT_EQ(*storage_->GetManifest("seed"), "1");
  const auto snapshot = storage_->NewSnapshot();
  ASSERT_OK(snapshot.status());
  std::vector<std::string> names;
  ASSERT_OK((*snapshot)->ScanManifest([&](std::string_view name, std::string_view /*value*/) {
    names.emplace_back(name);
    return Status();
  }));
  EXPECT_EQ(names, std::vector<std::string>{"seed"});
}

}  // namespace
}  // namespace damo
