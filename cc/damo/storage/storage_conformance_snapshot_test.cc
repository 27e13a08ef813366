// SPDX-License-Identifier: Apache-2.0
//
// What every Storage does beyond single rows: values of its manifest, snapshots of one moment, images, and
// new storages beside it.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "damo/base/test_status.h"
#include "damo/storage/test_storage.h"

namespace damo {
namespace {

using Values = std::vector<std::pair<std::string, std::string>>;

Values ManifestOf(const Storage& storage) {
  Values values;
  const StatusOr<std::unique_ptr<StorageSnapshot>> snapshot = storage.NewSnapshot();
  EXPECT_TRUE(IsOk(snapshot.status()));
  EXPECT_TRUE(IsOk((*snapshot)->ScanManifest([&](std::string_view name, std::string_view value) {
    values.emplace_back(name, value);
    return Status();
  })));
  return values;
}

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

}  // namespace
}  // namespace damo
