// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/rocksdb_released_rows.h"

#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <rocksdb/metadata.h>
#include <rocksdb/options.h>

#include <memory>
#include <string>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/row/key.h"
#include "damo/row/row_codec.h"

namespace damo {
namespace {

constexpr uint8_t kGroup = 3;
constexpr uint64_t kKey = 7;

std::string KeyBytes(uint64_t key) { return std::string(RowKey(kGroup, key).bytes()); }

std::string RowBytes(uint64_t key, int64_t update_time) {
  std::string row(RowLayout(2, 0).row_bytes(), '\0');
  EncodeRowHeader({kGroup, key, update_time, 1}, row.data());
  return row;
}

TEST(ReleasedRowsTest, ContainsRowsUpToTheTimeReleased) {
  ReleasedRows released;
  EXPECT_FALSE(released.Contains(KeyBytes(kKey), RowBytes(kKey, 0)));
  released.Release(kGroup, 100);
  EXPECT_TRUE(released.Contains(KeyBytes(kKey), RowBytes(kKey, 0)));
  EXPECT_TRUE(released.Contains(KeyBytes(kKey), RowBytes(kKey, 100)));
  EXPECT_FALSE(released.Contains(KeyBytes(kKey), RowBytes(kKey, 101)));
  released.Release(kGroup, 50);  // what is released stays so
  EXPECT_TRUE(released.Contains(KeyBytes(kKey), RowBytes(kKey, 100)));
  ReleasedRows of_another_group;
  of_another_group.Release(kGroup + 1, 100);
  EXPECT_FALSE(of_another_group.Contains(KeyBytes(kKey), RowBytes(kKey, 0)));
}

TEST(ReleasedRowsTest, WhatCannotBeARowIsNotReleased) {
  ReleasedRows released;
  released.Release(kGroup, 100);
  const std::string row = RowBytes(kKey, 1);
  EXPECT_FALSE(released.Contains("short", row));
  EXPECT_FALSE(released.Contains(KeyBytes(kKey), ""));
  EXPECT_FALSE(released.Contains(KeyBytes(kKey), row.substr(0, row.size() - 1)));
  EXPECT_FALSE(released.Contains(KeyBytes(kKey + 1), row)) << "the row of another key";
}

// A database with the filter, in which the test decides what is compacted.
class ReleasedRowsFilterTest : public testing::Test {
 protected:
  void SetUp() override {
    rocksdb::Options options;
    options.create_if_missing = true;
    options.disable_auto_compactions = true;
    options.num_levels = 4;
    options.compaction_filter_factory = NewReleasedRowsFilter(released_);
    rocksdb::DB* db = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open(options, directory_ / "db", &db).ok());
    db_.reset(db);
  }

  void PutInFileOfItsOwn(int64_t update_time) {
    ASSERT_TRUE(db_->Put(rocksdb::WriteOptions(), KeyBytes(kKey), RowBytes(kKey, update_time)).ok());
    ASSERT_TRUE(db_->Flush(rocksdb::FlushOptions()).ok());
  }
  // Compacts the files of level 0 alone, to `level`.
  void CompactLevel0To(int level) {
    rocksdb::ColumnFamilyMetaData family;
    db_->GetColumnFamilyMetaData(&family);
    std::vector<std::string> names;
    for (const auto& file : family.levels[0].files) names.push_back(file.name);
    const rocksdb::Status status = db_->CompactFiles(rocksdb::CompactionOptions(), names, level);
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
  // -1: there is none.
  int64_t UpdateTime() {
    std::string row;
    const rocksdb::Status status = db_->Get(rocksdb::ReadOptions(), KeyBytes(kKey), &row);
    if (status.IsNotFound()) return -1;
    EXPECT_TRUE(status.ok()) << status.ToString();
    return PeekUpdateTime(row, kGroup, kKey).value_or(-2);
  }

  const TestDirectory directory_;
  const std::shared_ptr<ReleasedRows> released_ = std::make_shared<ReleasedRows>();
  std::unique_ptr<rocksdb::DB> db_;
};

// The version below is dated later than it can be, so that the filter leaves it alone.
TEST_F(ReleasedRowsFilterTest, VersionBelowADroppedOneDoesNotComeBack) {
  PutInFileOfItsOwn(200);
  CompactLevel0To(3);
  PutInFileOfItsOwn(100);
  released_->Release(kGroup, 150);
  EXPECT_EQ(UpdateTime(), 100) << "nothing was compacted yet";
  CompactLevel0To(1);
  EXPECT_EQ(UpdateTime(), -1);
  ASSERT_TRUE(db_->CompactRange(rocksdb::CompactRangeOptions(), nullptr, nullptr).ok());
  EXPECT_EQ(UpdateTime(), -1);
}

TEST_F(ReleasedRowsFilterTest, DroppingAnOldVersionLeavesTheNewOne) {
  PutInFileOfItsOwn(100);
  CompactLevel0To(2);
  PutInFileOfItsOwn(200);
  CompactLevel0To(1);
  PutInFileOfItsOwn(300);
  released_->Release(kGroup, 250);
  CompactLevel0To(1);
  EXPECT_EQ(UpdateTime(), 300);
  ASSERT_TRUE(db_->CompactRange(rocksdb::CompactRangeOptions(), nullptr, nullptr).ok());
  EXPECT_EQ(UpdateTime(), 300);
}

TEST_F(ReleasedRowsFilterTest, SnapshotMayLoseAReleasedRow) {
  PutInFileOfItsOwn(100);
  const rocksdb::Snapshot* const snapshot = db_->GetSnapshot();
  released_->Release(kGroup, 100);
  ASSERT_TRUE(db_->CompactRange(rocksdb::CompactRangeOptions(), nullptr, nullptr).ok());
  rocksdb::ReadOptions read;
  read.snapshot = snapshot;
  std::string row;
  EXPECT_TRUE(db_->Get(read, KeyBytes(kKey), &row).IsNotFound());
  db_->ReleaseSnapshot(snapshot);
}

}  // namespace
}  // namespace damo
