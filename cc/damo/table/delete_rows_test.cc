// SPDX-License-Identifier: Apache-2.0
#include "damo/table/delete_rows.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/storage/rocksdb_storage.h"
#include "damo/table/test_tables.h"

namespace damo {
namespace {

class DeleteRowsTest : public testing::TestWithParam<bool> {
 protected:
  void Open(StoreOptions options = {}) {
    store_.reset();
    options.row_cache = GetParam();
    RocksDbStorageOptions storage_options;
    storage_options.memory_budget = 8 << 20;
    storage_options.read_only = options.read_only.value_or(false);
    StatusOr<std::unique_ptr<Storage>> storage = OpenRocksDbStorage(path_, storage_options);
    ASSERT_OK(storage.status());
    StatusOr<std::unique_ptr<Store>> store = Store::Open(path_, options, std::move(*storage), &clock_);
    ASSERT_OK(store.status());
    store_ = std::move(*store);
    if (storage_options.read_only) return;
    ASSERT_OK(store_->AddGroup(TableConfig(1, 2, "sgd", "ones")).status());
  }
  void ApplyTo(const Keys& keys) { Apply(*Table(), {keys, Floats(keys.size() * 2, 1.0f)}); }
  EmbeddingTable* Table() { return store_->Table(1)->get(); }
  bool HasRow(uint64_t key) { return Table()->GetRow(key)->has_value(); }

  TestDirectory directory_;
  const std::string path_ = directory_ / "store";
  FakeClock clock_{1'000'000};
  std::unique_ptr<Store> store_;
};

TEST_P(DeleteRowsTest, GivenKeysLoseTheirRowsAndTheOthersKeepThem) {
  Open();
  ApplyTo({0, 5, 7, UINT64_MAX});
  const StatusOr<int64_t> deleted = DeleteRows(*store_, 1, Keys{UINT64_MAX, 7, 99, 7});
  ASSERT_OK(deleted.status());
  EXPECT_EQ(*deleted, 2);
  EXPECT_EQ(*store_->Size(), 2);
  EXPECT_TRUE(HasRow(0) && HasRow(5));
  EXPECT_FALSE(HasRow(7) || HasRow(UINT64_MAX));
  EXPECT_EQ(Lookup(*Table(), {7}), (Floats{1, 1}));  // the initial value
}

TEST_P(DeleteRowsTest, DeletedRowsStayAwayAfterACrashAndBeginAnew) {
  for (const Durability durability : {Durability::kWal, Durability::kCheckpoint}) {
    StoreOptions options;
    options.durability = durability;
    Open(options);
    ApplyTo({5, 7});
    ApplyTo({5, 7});
    ASSERT_OK(DeleteRows(*store_, 1, Keys{7}).status());
    // What is on disk now is what a crash would leave.
    const TestDirectory crashed;
    CopyLiveDirectory(path_, crashed / "store");
    StatusOr<std::unique_ptr<Storage>> storage = OpenRocksDbStorage(crashed / "store", {});
    ASSERT_OK(storage.status());
    const auto again = Store::Open(crashed / "store", options, std::move(*storage), &clock_);
    ASSERT_OK(again.status());
    EmbeddingTable& table = **(*again)->Table(1);
    EXPECT_FALSE(table.GetRow(7)->has_value());
    EXPECT_EQ((*table.GetRow(5))->header.update_num, (*Table()->GetRow(5))->header.update_num);
    EXPECT_EQ(*(*again)->Size(), 1);
    Apply(table, {{7}, {1, 1}});
    EXPECT_EQ((*table.GetRow(7))->header.update_num, 1);
  }
}

TEST_P(DeleteRowsTest, MoreKeysThanOnePartAreDeleted) {
  Open();
  const Keys keys = KeyRange(0, 300'000);
  ApplyTo(keys);
  EXPECT_EQ(*DeleteRows(*store_, 1, KeyRange(1, 400'000)), 299'999);
  EXPECT_EQ(*store_->Size(), 1);
  EXPECT_TRUE(HasRow(0));
}

TEST_P(DeleteRowsTest, ExpiredRowsGoButAreNotCounted) {
  StoreOptions options;
  options.ttl_seconds = 10;
  Open(options);
  ApplyTo({5});
  clock_.AdvanceMillis(10'000);
  ApplyTo({7});
  EXPECT_EQ(*DeleteRows(*store_, 1, Keys{5, 7}), 1);
  EXPECT_EQ(Table()->num_rows(), 0);
}

TEST_P(DeleteRowsTest, UnknownGroupAndStoreThatCannotBeWrittenAreRefused) {
  Open();
  EXPECT_TRUE(FailsWith(DeleteRows(*store_, 2, Keys{5}).status(), StatusCode::kNotFound, "has no group 2"));
  EXPECT_EQ(*DeleteRows(*store_, 1, Keys{}), 0);
  StoreOptions options;
  options.read_only = true;
  Open(options);
  EXPECT_TRUE(FailsWith(DeleteRows(*store_, 1, Keys{}).status(), StatusCode::kFailedPrecondition,
                        "was opened read-only"));
}

INSTANTIATE_TEST_SUITE_P(Kinds, DeleteRowsTest, testing::Bool(),
                         [](const auto& info) { return std::string(info.param ? "Cached" : "Direct"); });

}  // namespace
}  // namespace damo
