// SPDX-License-Identifier: Apache-2.0
//
// What only sorted batches on disk do: files, crashes, sizes. What every sorted batch does is in
// storage_conformance*_test.cc.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_process.h"
#include "damo/base/test_status.h"
#include "damo/storage/rocksdb_storage.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

std::unique_ptr<Storage> MustOpen(const std::string& directory, Durability durability = Durability::kWal) {
  RocksDbStorageOptions options;
  options.memory_budget = StoreOptions::kMinMemoryBudget;
  options.durability = durability;
  StatusOr<std::unique_ptr<Storage>> storage = OpenRocksDbStorage(directory, options);
  if (!storage.ok()) {
    ADD_FAILURE() << storage.status().ToString();
    std::abort();
  }
  return std::move(*storage);
}

std::string RowOf(uint64_t key, int version) {
  std::string row = "row " + std::to_string(key) + " version " + std::to_string(version) + " ";
  row.resize(400, 'x');
  return row;
}

// A batch of the rows of [0, num_keys) and the manifest's version, not committed.
StatusOr<std::unique_ptr<SortedBatch>> FilledBatch(Storage& storage, uint64_t num_keys, int version) {
  DAMO_ASSIGN_OR_RETURN(std::unique_ptr<SortedBatch> batch, storage.NewSortedBatch());
  for (uint64_t key = 0; key < num_keys; ++key) {
    DAMO_RETURN_IF_ERROR(batch->PutRow(1, key, RowOf(key, version)));
  }
  DAMO_RETURN_IF_ERROR(batch->PutManifest("version", std::to_string(version)));
  return batch;
}

Status CommitRows(Storage& storage, uint64_t num_keys, int version) {
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<SortedBatch> batch, FilledBatch(storage, num_keys, version));
  return batch->Commit();
}

// The failure of reading the rows of [0, num_keys) and the manifest's version, one by one and in order.
Status CheckRows(const Storage& storage, uint64_t num_keys, int version) {
  DAMO_ASSIGN_OR_RETURN(const std::optional<std::string> value, storage.GetManifest("version"));
  if (value != std::to_string(version)) return Internal("version is ", value.value_or("absent"));
  std::vector<uint64_t> keys(num_keys);
  std::iota(keys.begin(), keys.end(), uint64_t{0});
  DAMO_RETURN_IF_ERROR(storage.MultiGet(1, keys, [&](size_t key, std::optional<std::string_view> row) {
    return row == RowOf(key, version) ? Status() : Internal("row ", key, " is ", row.value_or("absent"));
  }));
  uint64_t next = 0;
  DAMO_RETURN_IF_ERROR(storage.Scan(1, [&](uint64_t key, std::string_view row) {
    return key == next++ && row == RowOf(key, version) ? Status() : Internal("row ", key, " is ", row);
  }));
  return next == num_keys ? Status() : Internal(next, " rows");
}

size_t NumFiles(const std::string& directory) {
  size_t num_files = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    num_files += entry.is_regular_file() ? 1 : 0;
  }
  return num_files;
}

TEST(RocksDbSortedBatchTest, CommitAndGivingUpLeaveNoFilesInTheFolder) {
  const TestDirectory directory;
  const std::unique_ptr<Storage> storage = MustOpen(directory.path());
  ASSERT_OK(CommitRows(*storage, 1000, 1));
  EXPECT_EQ(NumFiles(directory / "ingest"), 0u);
  {
    const auto given_up = FilledBatch(*storage, 1000, 2);
    ASSERT_OK(given_up.status());
    EXPECT_EQ(NumFiles(directory / "ingest"), 1u);
  }
  EXPECT_EQ(NumFiles(directory / "ingest"), 0u);
  ASSERT_OK(CheckRows(*storage, 1000, 1));
}

TEST(RocksDbSortedBatchTest, LargeBatchIsSeveralFilesAndOneStep) {
  constexpr uint64_t kKeys = 400000;  // 170 MB
  const TestDirectory directory;
  std::unique_ptr<Storage> storage = MustOpen(directory.path());
  {
    StatusOr<std::unique_ptr<SortedBatch>> batch = FilledBatch(*storage, kKeys, 1);
    ASSERT_OK(batch.status());
    EXPECT_EQ(NumFiles(directory / "ingest"), 3u);
    EXPECT_GT(storage->Stats()->disk_bytes, kKeys * 390);
    EXPECT_EQ(*storage->GetManifest("version"), std::nullopt);
    ASSERT_OK((*batch)->Commit());
  }
  ASSERT_OK(CheckRows(*storage, kKeys, 1));
  ASSERT_OK(storage->Close());
  ASSERT_OK(CheckRows(*MustOpen(directory.path()), kKeys, 1));
}

// Writes version 1, logged only, then fills a batch of version 2, and dies before its commit.
std::string DieBeforeCommit(const std::string& directory) {
  Storage* const storage = MustOpen(directory).release();
  const std::unique_ptr<StorageBatch> batch = storage->NewBatch();
  for (uint64_t key = 0; key < 100; ++key) {
    const Status status = batch->PutRow(1, key, RowOf(key, 1));
    if (!status.ok()) return status.ToString();
  }
  Status status = batch->PutManifest("version", "1");
  if (status.ok()) status = storage->Write(*batch);
  if (!status.ok()) return status.ToString();
  auto filled = FilledBatch(*storage, 100, 2);
  if (!filled.ok()) return filled.status().ToString();
  (*filled).release();
  return "ok";
}

TEST(RocksDbSortedBatchTest, DeathBeforeTheCommitLeavesNothingOfTheBatch) {
  const TestDirectory directory;
  ASSERT_EQ(RunInFreshProcess(DieBeforeCommit, directory.path()), "ok");
  ASSERT_EQ(NumFiles(directory / "ingest"), 1u);
  RocksDbStorageOptions reader;
  reader.read_only = true;
  ASSERT_OK(OpenRocksDbStorage(directory.path(), reader).status());
  EXPECT_EQ(NumFiles(directory / "ingest"), 1u) << "a reader removes nothing: the files may be a writer's";
  const std::unique_ptr<Storage> storage = MustOpen(directory.path());
  EXPECT_EQ(NumFiles(directory / "ingest"), 0u);
  ASSERT_OK(CheckRows(*storage, 100, 1));
  ASSERT_OK(CommitRows(*storage, 100, 3));
  ASSERT_OK(CheckRows(*storage, 100, 3));
}

// Writes row 0 to the log, commits over it, writes row 0 and 1 to the log again, and dies.
template <Durability durability>
std::string WriteAroundACommitAndDie(const std::string& directory) {
  Storage* const storage = MustOpen(directory, durability).release();
  const auto write = [storage](uint64_t num_keys, std::string_view row) {
    const std::unique_ptr<StorageBatch> batch = storage->NewBatch();
    for (uint64_t key = 0; key < num_keys; ++key) DAMO_RETURN_IF_ERROR(batch->PutRow(1, key, row));
    return storage->Write(*batch);
  };
  Status status = write(1, "before");
  if (status.ok()) status = CommitRows(*storage, 3, 1);
  if (status.ok()) status = write(2, "after");
  return status.ToString();
}

TEST(RocksDbSortedBatchTest, DeathAfterTheCommitKeepsTheOrderOfWrites) {
  const TestDirectory directory;
  ASSERT_EQ(RunInFreshProcess(WriteAroundACommitAndDie<Durability::kWal>, directory.path()), "ok");
  std::vector<std::string> rows;
  ASSERT_OK(MustOpen(directory.path())->Scan(1, [&](uint64_t, std::string_view row) {
    rows.emplace_back(row);
    return Status();
  }));
  EXPECT_EQ(rows, (std::vector<std::string>{"after", "after", RowOf(2, 1)}));
}

TEST(RocksDbSortedBatchTest, DeathInCheckpointModeKeepsACommit) {
  const TestDirectory directory;
  ASSERT_EQ(RunInFreshProcess(WriteAroundACommitAndDie<Durability::kCheckpoint>, directory.path()), "ok");
  ASSERT_OK(CheckRows(*MustOpen(directory.path()), 3, 1));
}

TEST(RocksDbSortedBatchTest, ManyBatchesOverOneAnotherAreCompactedWithinTheBudget) {
  constexpr uint64_t kKeys = 20000;  // 8 MB
  constexpr int kVersions = 20;
  const TestDirectory directory;
  std::unique_ptr<Storage> storage = MustOpen(directory.path());
  for (int version = 1; version <= kVersions; ++version) {
    ASSERT_OK(CommitRows(*storage, kKeys, version));
    EXPECT_LE(storage->Stats()->block_cache_bytes, static_cast<uint64_t>(StoreOptions::kMinMemoryBudget));
  }
  ASSERT_OK(CheckRows(*storage, kKeys, kVersions));
  ASSERT_OK(storage->Close());
  ASSERT_OK(CheckRows(*MustOpen(directory.path()), kKeys, kVersions));
}

TEST(RocksDbSortedBatchTest, FilesDoNotPileUpInLevelZero) {
  const TestDirectory directory;
  const std::unique_ptr<Storage> storage = MustOpen(directory.path());
  for (int version = 1; version <= 100; ++version) {
    ASSERT_OK(CommitRows(*storage, 2000, version));
    size_t num_tables = 0;
    for (const fs::directory_entry& entry : fs::directory_iterator(directory.path())) {
      std::error_code removed_meanwhile;
      const uintmax_t size = entry.file_size(removed_meanwhile);
      num_tables += entry.path().extension() == ".sst" && !removed_meanwhile && size > 100000 ? 1 : 0;
    }
    EXPECT_LT(num_tables, 40u);  // 12, the levels below, and the inputs and outputs of a running compaction
  }
  ASSERT_OK(CheckRows(*storage, 2000, 100));
}

TEST(RocksDbSortedBatchTest, ReadOnlyStorageRefusesSortedBatches) {
  const TestDirectory directory;
  ASSERT_OK(MustOpen(directory.path())->Close());
  RocksDbStorageOptions options;
  options.read_only = true;
  const auto storage = OpenRocksDbStorage(directory.path(), options);
  ASSERT_OK(storage.status());
  EXPECT_TRUE(FailsWith((*storage)->NewSortedBatch().status(), StatusCode::kFailedPrecondition,
                        "it is open read-only"));
}

TEST(RocksDbSortedBatchTest, FlippedBitInACommittedFileIsDataLoss) {
  const TestDirectory directory;
  std::unique_ptr<Storage> storage = MustOpen(directory.path());
  ASSERT_OK(CommitRows(*storage, 1000, 1));
  ASSERT_OK(storage->Close());
  for (const fs::directory_entry& entry : fs::directory_iterator(directory.path())) {
    if (entry.path().extension() != ".sst" || entry.file_size() < 100000) continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(100);
    const char byte = static_cast<char>(file.get() ^ 1);
    file.seekp(100);
    file.put(byte);
  }
  storage = MustOpen(directory.path());
  EXPECT_TRUE(FailsWith(CheckRows(*storage, 1000, 1), StatusCode::kDataLoss,
                        StrCat("read store '", directory.path(), "': group 1, 1000 keys: Corruption: ")));
}

TEST(RocksDbSortedBatchTest, BytesOfTheRedoLogCount) {
  const TestDirectory directory;
  const std::unique_ptr<Storage> storage = MustOpen(directory.path());
  const uint64_t before = storage->Stats()->disk_bytes;
  fs::create_directory(directory / "redo");
  std::ofstream(directory / "redo/segment", std::ios::binary) << std::string(12345, 'x');
  EXPECT_EQ(storage->Stats()->disk_bytes, before + 12345);
}

}  // namespace
}  // namespace damo
