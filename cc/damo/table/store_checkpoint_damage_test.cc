// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints that are damaged, incomplete, or none at all: they are refused, and the store is as it was.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <ios>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "damo/base/test_status.h"
#include "damo/checkpoint/description.h"
#include "damo/storage/directory.h"
#include "damo/storage/rocksdb_storage.h"
#include "damo/table/store.h"
#include "damo/table/test_store.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

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
  StoreContent before_;
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
  const StoreContent read = ContentOf(**store);
  EXPECT_TRUE(FailsWith((*store)->Checkpoint(a_ / "x"), StatusCode::kFailedPrecondition, "read-only"));
  EXPECT_TRUE(FailsWith((*store)->Restore({a_ / "full"}), StatusCode::kFailedPrecondition, "read-only"));
  ASSERT_OK(a_.store().Restore({a_ / "full"}));
  EXPECT_EQ(a_.content(), read);
  StatusOr<std::unique_ptr<Storage>> delta = OpenRocksDbStorage(a_ / "delta", read_only);
  EXPECT_TRUE(FailsWith(delta.status(), StatusCode::kInvalidArgument, "a checkpoint of changes only"));
}

}  // namespace
}  // namespace damo
