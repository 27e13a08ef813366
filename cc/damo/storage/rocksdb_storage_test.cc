// SPDX-License-Identifier: Apache-2.0
//
// What only a storage on disk does: opening, closing, crashes, damaged files. What every storage does is in
// storage_conformance*_test.cc.
#include "damo/storage/rocksdb_storage.h"

#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_process.h"
#include "damo/base/test_status.h"

namespace damo {
namespace {

namespace fs = std::filesystem;
using StorageOr = StatusOr<std::unique_ptr<Storage>>;

constexpr Durability kDurabilities[] = {Durability::kWal, Durability::kSync, Durability::kCheckpoint};

StorageOr Open(const std::string& directory, Durability durability = Durability::kWal) {
  RocksDbStorageOptions options;
  options.memory_budget = StoreOptions::kMinMemoryBudget;
  options.durability = durability;
  return OpenRocksDbStorage(directory, options);
}

StorageOr OpenReadOnly(const std::string& directory) {
  RocksDbStorageOptions options;
  options.read_only = true;
  return OpenRocksDbStorage(directory, options);
}

// Opens or ends the test program: for the lines of a test that are not about opening.
std::unique_ptr<Storage> MustOpen(const std::string& directory, Durability durability = Durability::kWal) {
  StorageOr storage = Open(directory, durability);
  if (!storage.ok()) {
    ADD_FAILURE() << storage.status().ToString();
    std::abort();
  }
  return std::move(*storage);
}

// A row large enough that a few thousand fill files.
std::string RowOf(uint64_t key, int version = 0) {
  std::string row = "row " + std::to_string(key) + " version " + std::to_string(version) + " ";
  row.resize(400, static_cast<char>('a' + key % 26));
  return row;
}

Status PutRows(Storage& storage, uint64_t begin, uint64_t end, int version = 0) {
  const std::unique_ptr<StorageBatch> batch = storage.NewBatch();
  for (uint64_t key = begin; key < end; ++key) {
    DAMO_RETURN_IF_ERROR(batch->PutRow(1, key, RowOf(key, version)));
  }
  return storage.Write(*batch);
}

// One write: row `step`, and the step's number in the manifest.
Status WriteStep(Storage& storage, uint64_t step) {
  const std::unique_ptr<StorageBatch> batch = storage.NewBatch();
  DAMO_RETURN_IF_ERROR(batch->PutRow(1, step, RowOf(step)));
  DAMO_RETURN_IF_ERROR(batch->PutManifest("step", std::to_string(step)));
  return storage.Write(*batch);
}

Status WriteSteps(Storage& storage, uint64_t begin, uint64_t end) {
  for (uint64_t step = begin; step < end; ++step) DAMO_RETURN_IF_ERROR(WriteStep(storage, step));
  return Status();
}

// The failure of reading all of [0, num_keys), or of a row that is not RowOf(key, version).
Status ReadRows(const Storage& storage, uint64_t num_keys, int version = 0) {
  std::vector<uint64_t> keys(num_keys);
  std::iota(keys.begin(), keys.end(), uint64_t{0});
  return storage.MultiGet(1, keys, [&](size_t key, std::optional<std::string_view> row) {
    if (row == RowOf(key, version)) return Status();
    return Internal("row ", key, " is ", row.value_or("absent"));
  });
}

Status ScanRows(const Storage& storage, uint64_t num_keys, int version = 0) {
  uint64_t next = 0;
  DAMO_RETURN_IF_ERROR(storage.Scan(1, [&](uint64_t key, std::string_view row) {
    if (key != next++ || row != RowOf(key, version)) return Internal("row ", key, " is ", row);
    return Status();
  }));
  return next == num_keys ? Status() : Internal(next, " rows");
}

// The number of the last step that reached the disk, having checked that it and all before it did so whole.
// -1: none did.
int64_t LastStep(const Storage& storage) {
  const StatusOr<std::optional<std::string>> value = storage.GetManifest("step");
  EXPECT_TRUE(IsOk(value.status()));
  const int64_t last = *value ? std::stoll(**value) : -1;
  const Status status = ScanRows(storage, static_cast<uint64_t>(last + 1));
  EXPECT_TRUE(IsOk(status));
  return last;
}

// Every file of a directory with its bytes.
std::map<std::string, std::string> Snapshot(const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    std::ifstream file(entry.path(), std::ios::binary);
    files[entry.path().filename()] = std::string(std::istreambuf_iterator<char>(file), {});
  }
  return files;
}

std::vector<fs::path> FilesWithExtension(const std::string& directory, const std::string& extension) {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == extension) files.push_back(entry.path());
  }
  return files;
}

void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::unique_ptr<rocksdb::DB> OpenPlainRocksDb(const std::string& directory, bool create) {
  rocksdb::Options options;
  options.create_if_missing = create;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status = create ? rocksdb::DB::Open(options, directory, &db)
                                        : rocksdb::DB::OpenForReadOnly(options, directory, &db);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return std::unique_ptr<rocksdb::DB>(db);
}

// ---- opening and closing ----

TEST(RocksDbStorageTest, ReopenKeepsRowsAndManifestInAnyDurability) {
  for (const Durability first : kDurabilities) {
    for (const Durability second : kDurabilities) {
      SCOPED_TRACE(StrCat(DurabilityName(first), " then ", DurabilityName(second)));
      const TestDirectory directory;
      std::unique_ptr<Storage> storage = MustOpen(directory / "store", first);
      ASSERT_OK(WriteSteps(*storage, 0, 10));
      ASSERT_OK(storage->Close());
      storage = MustOpen(directory / "store", second);
      EXPECT_EQ(LastStep(*storage), 9);
      ASSERT_OK(WriteSteps(*storage, 10, 20));
      ASSERT_OK(storage->Close());
      storage = MustOpen(directory / "store", first);
      EXPECT_EQ(LastStep(*storage), 19);
    }
  }
}

TEST(RocksDbStorageTest, MissingDirectoriesAreCreated) {
  const TestDirectory directory;
  const std::string path = directory / "a/b/store";
  ASSERT_OK(MustOpen(path)->Close());
  EXPECT_TRUE(fs::exists(path + "/CURRENT"));
  EXPECT_FALSE(fs::exists(path + "/DAMO_UNFINISHED"));
}

TEST(RocksDbStorageTest, EmptyDirectoryAndTrailingSlashAreFine) {
  const TestDirectory directory;
  std::unique_ptr<Storage> storage = MustOpen(directory.path() + "/");
  ASSERT_OK(PutRows(*storage, 0, 3));
  ASSERT_OK(storage->Close());
  ASSERT_OK(ScanRows(*MustOpen(directory.path()), 3));
}

TEST(RocksDbStorageTest, CreationCutShortIsTakenUpAgain) {
  const TestDirectory directory;
  OpenPlainRocksDb(directory.path(), /*create=*/true)
      .reset();  // killed before the manifest's family was made
  WriteFile(directory / "DAMO_UNFINISHED", "");
  EXPECT_TRUE(FailsWith(OpenReadOnly(directory.path()).status(), StatusCode::kNotFound, "holds no store"));
  std::unique_ptr<Storage> storage = MustOpen(directory.path());
  ASSERT_OK(PutRows(*storage, 0, 3));
  EXPECT_FALSE(fs::exists(directory / "DAMO_UNFINISHED"));
  ASSERT_OK(storage->Close());
  ASSERT_OK(ScanRows(*MustOpen(directory.path()), 3));
}

TEST(RocksDbStorageTest, DestructionWithoutCloseReleasesTheStore) {
  const TestDirectory directory;
  ASSERT_OK(WriteSteps(*MustOpen(directory / "store"), 0, 10));
  EXPECT_EQ(LastStep(*MustOpen(directory / "store")), 9);
}

TEST(RocksDbStorageTest, ClosedStoreIsReadByPlainRocksDbWithoutItsLogs) {
  for (const Durability durability : kDurabilities) {
    const TestDirectory directory;
    std::unique_ptr<Storage> storage = MustOpen(directory.path(), durability);
    ASSERT_OK(PutRows(*storage, 0, 100));
    ASSERT_OK(storage->Close());
    for (const fs::path& log : FilesWithExtension(directory.path(), ".log")) fs::remove(log);
    const std::unique_ptr<rocksdb::DB> db = OpenPlainRocksDb(directory.path(), /*create=*/false);
    std::string row;
    EXPECT_TRUE(db->Get(rocksdb::ReadOptions(), std::string("\1\0\0\0\0\0\0\0\143", 9), &row).ok());
    EXPECT_EQ(row, RowOf(99));
  }
}

// ---- what cannot be opened ----

TEST(RocksDbStorageTest, DirectoryOfOtherFilesIsRefusedAndLeftAlone) {
  const TestDirectory directory;
  WriteFile(directory / "thesis.txt", "years of work");
  const auto before = Snapshot(directory.path());
  for (const StorageOr& storage : {Open(directory.path()), OpenReadOnly(directory.path())}) {
    EXPECT_TRUE(FailsWith(
        storage.status(), StatusCode::kInvalidArgument,
        StrCat("open store '", directory.path(), "': the directory is not empty and holds no store")));
  }
  EXPECT_EQ(Snapshot(directory.path()), before);
}

TEST(RocksDbStorageTest, FileInPlaceOfADirectoryIsRefused) {
  const TestDirectory directory;
  WriteFile(directory / "file", "bytes");
  EXPECT_TRUE(FailsWith(Open(directory / "file").status(), StatusCode::kInvalidArgument,
                        StrCat("open store '", directory / "file", "': is a file, not a directory")));
  EXPECT_TRUE(FailsWith(Open(directory / "file/store").status(), StatusCode::kIoError,
                        StrCat("create directory '", directory / "file", "': ")));
  EXPECT_EQ(Snapshot(directory.path()), (std::map<std::string, std::string>{{"file", "bytes"}}));
}

TEST(RocksDbStorageTest, BadArgumentsAreRefused) {
  const TestDirectory directory;
  EXPECT_TRUE(FailsWith(Open("").status(), StatusCode::kInvalidArgument, "open store '': the path is empty"));
  EXPECT_TRUE(FailsWith(Open(directory / std::string("a\0b", 3)).status(), StatusCode::kInvalidArgument,
                        "contains a zero byte"));
  for (const int64_t budget :
       {INT64_MIN, int64_t{-1}, int64_t{0}, RocksDbStorageOptions::kMinMemoryBudget - 1}) {
    RocksDbStorageOptions options;
    options.memory_budget = budget;
    EXPECT_TRUE(
        FailsWith(OpenRocksDbStorage(directory / "store", options).status(), StatusCode::kInvalidArgument,
                  StrCat("memory_budget must be >= 1048576 bytes. Received: memory_budget=", budget)));
  }
  for (const int64_t bytes : {int64_t{-1}, StoreOptions::kDefaultMemoryBudget / 4 + 1}) {
    RocksDbStorageOptions options;
    options.memtable_bytes = bytes;
    EXPECT_TRUE(FailsWith(
        OpenRocksDbStorage(directory / "store", options).status(), StatusCode::kInvalidArgument,
        StrCat("memtable_bytes must be in [0, memory_budget / 4]. Received: memtable_bytes=", bytes)));
  }
  EXPECT_TRUE(fs::is_empty(directory.path()));
}

TEST(RocksDbStorageTest, PlainRocksDbDatabaseIsRefusedAndLeftAlone) {
  const TestDirectory directory;
  ASSERT_TRUE(
      OpenPlainRocksDb(directory.path(), /*create=*/true)->Put(rocksdb::WriteOptions(), "key", "value").ok());
  const auto before = Snapshot(directory.path());
  for (const StorageOr& storage : {Open(directory.path()), OpenReadOnly(directory.path())}) {
    EXPECT_TRUE(FailsWith(storage.status(), StatusCode::kInvalidArgument,
                          "is a RocksDB database but not a damo store: its column families are 'default'"));
  }
  EXPECT_EQ(Snapshot(directory.path()), before);
}

TEST(RocksDbStorageTest, DatabaseWithAnotherColumnFamilyIsRefused) {
  const TestDirectory directory;
  {
    const std::unique_ptr<rocksdb::DB> db = OpenPlainRocksDb(directory.path(), /*create=*/true);
    for (const char* const name : {"manifest", "queue"}) {
      rocksdb::ColumnFamilyHandle* handle = nullptr;
      ASSERT_TRUE(db->CreateColumnFamily(rocksdb::ColumnFamilyOptions(), name, &handle).ok());
      ASSERT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
    }
  }
  EXPECT_TRUE(FailsWith(Open(directory.path()).status(), StatusCode::kInvalidArgument,
                        "not a damo store: its column families are 'default', 'manifest', 'queue'"));
}

TEST(RocksDbStorageTest, SecondOpenInThisProcessFails) {
  const TestDirectory directory;
  const std::unique_ptr<Storage> storage = MustOpen(directory.path());
  EXPECT_TRUE(
      FailsWith(Open(directory.path()).status(), StatusCode::kFailedPrecondition,
                StrCat("open store '", directory.path(), "': this process already has it open for writing")));
  ASSERT_OK(PutRows(*storage, 0, 3));
}

TEST(RocksDbStorageTest, SecondOpenInAnotherProcessFails) {
  const TestDirectory directory;
  const std::unique_ptr<Storage> storage = MustOpen(directory.path());
  const std::string report = RunInFreshProcess(
      [](const std::string& path) { return Open(path).status().ToString(); }, directory.path());
  EXPECT_EQ(report.find(StrCat("failed precondition: open store '", directory.path(),
                               "': another process has it open for writing; close it there, or open it "
                               "read-only")),
            0u)
      << report;
  ASSERT_OK(PutRows(*storage, 0, 3));
}

TEST(RocksDbStorageTest, DamagedDatabaseIsDataLoss) {
  const TestDirectory directory;
  ASSERT_OK(MustOpen(directory.path())->Close());
  WriteFile(directory / "CURRENT", "MANIFEST-none\n");
  for (const StorageOr& storage : {Open(directory.path()), OpenReadOnly(directory.path())}) {
    EXPECT_TRUE(
        FailsWith(storage.status(), StatusCode::kDataLoss, StrCat("open store '", directory.path(), "': ")));
  }
}

TEST(RocksDbStorageTest, MissingTableFileFailsTheOpen) {
  const TestDirectory directory;
  std::unique_ptr<Storage> storage = MustOpen(directory.path());
  ASSERT_OK(PutRows(*storage, 0, 100));
  ASSERT_OK(storage->Close());
  fs::remove(FilesWithExtension(directory.path(), ".sst").at(0));
  for (const StorageOr& opened : {Open(directory.path()), OpenReadOnly(directory.path())}) {
    EXPECT_TRUE(FailsWith(opened.status(), StatusCode::kDataLoss, "No such file"));
  }
}

// ---- read-only ----

TEST(RocksDbStorageTest, ReadOnlyOpenOfAnAbsentStoreCreatesNothing) {
  const TestDirectory directory;
  EXPECT_TRUE(FailsWith(OpenReadOnly(directory / "store").status(), StatusCode::kNotFound,
                        StrCat("open store '", directory / "store", "': there is no such directory")));
  EXPECT_TRUE(FailsWith(OpenReadOnly(directory.path()).status(), StatusCode::kNotFound,
                        StrCat("open store '", directory.path(), "': the directory holds no store")));
  EXPECT_TRUE(fs::is_empty(directory.path()));
}

TEST(RocksDbStorageTest, ReadOnlyStorageReadsAndRefusesToWrite) {
  const TestDirectory directory;
  std::unique_ptr<Storage> writer = MustOpen(directory.path());
  ASSERT_OK(WriteSteps(*writer, 0, 10));
  ASSERT_OK(writer->Close());
  const auto before = Snapshot(directory.path());

  StorageOr reader = OpenReadOnly(directory.path());
  ASSERT_OK(reader.status());
  EXPECT_EQ(LastStep(**reader), 9);
  ASSERT_OK(ReadRows(**reader, 10));
  EXPECT_TRUE(FailsWith(WriteStep(**reader, 10), StatusCode::kFailedPrecondition,
                        StrCat("write to store '", directory.path(), "': it is open read-only")));
  EXPECT_EQ(LastStep(**reader), 9);
  ASSERT_OK((*reader)->Flush());
  EXPECT_GT((*reader)->Stats()->disk_bytes, 0u);
  ASSERT_OK((*reader)->Close());
  EXPECT_EQ(Snapshot(directory.path()), before);
}

TEST(RocksDbStorageTest, ReaderBesideAWriterKeepsTheStateAtItsOpening) {
  constexpr uint64_t kKeys = 5000;
  const TestDirectory directory;
  std::unique_ptr<Storage> writer = MustOpen(directory.path());
  ASSERT_OK(PutRows(*writer, 0, kKeys, 0));
  ASSERT_OK(writer->Close());
  writer = MustOpen(directory.path());
  ASSERT_OK(PutRows(*writer, 0, 10, 0));  // in the log only

  StorageOr reader = OpenReadOnly(directory.path());
  ASSERT_OK(reader.status());
  const std::vector<fs::path> tables = FilesWithExtension(directory.path(), ".sst");
  for (int version = 1; version <= 20; ++version) ASSERT_OK(PutRows(*writer, 0, kKeys, version));
  ASSERT_OK(writer->Close());
  ASSERT_FALSE(tables.empty());
  for (const fs::path& table : tables) ASSERT_FALSE(fs::exists(table)) << "not yet replaced: " << table;
  ASSERT_OK(ReadRows(**reader, kKeys, 0));
  ASSERT_OK(ScanRows(**reader, kKeys, 0));

  writer = MustOpen(directory.path());
  ASSERT_OK(PutRows(*writer, 0, kKeys, 21));
  ASSERT_OK((*reader)->Close());
  ASSERT_OK(ReadRows(*writer, kKeys, 21));
  ASSERT_OK(writer->Close());
  ASSERT_OK(ReadRows(*MustOpen(directory.path()), kKeys, 21));
}

TEST(RocksDbStorageTest, ReadersOpenWhileAWriterReplacesFiles) {
  const TestDirectory directory;
  const std::unique_ptr<Storage> writer = MustOpen(directory.path());
  for (uint64_t step = 0; step < 40; ++step) {
    ASSERT_OK(WriteStep(*writer, step));
    ASSERT_OK(
        PutRows(*writer, step + 1, step + 1500, 1));  // enough to flush, and compact, behind the readers
    const StorageOr reader = OpenReadOnly(directory.path());
    ASSERT_OK(reader.status());
    EXPECT_EQ(**(*reader)->GetManifest("step"), std::to_string(step));
  }
}

// ---- processes that die ----

constexpr uint64_t kStepsFlushed = 200;
constexpr uint64_t kSteps = 6000;  // some megabytes: several memtables of the smallest budget

// Writes `steps` steps, flushing after kStepsFlushed of them, and dies without closing.
template <Durability durability, uint64_t steps>
std::string WriteAndDie(const std::string& directory) {
  Storage* const storage = MustOpen(directory, durability).release();
  Status status = WriteSteps(*storage, 0, kStepsFlushed);
  if (status.ok()) status = storage->Flush();
  if (status.ok()) status = WriteSteps(*storage, kStepsFlushed, steps);
  return status.ToString();
}

TEST(RocksDbStorageTest, ProcessDeathInWalModeLosesNothing) {
  const TestDirectory directory;
  ASSERT_EQ(RunInFreshProcess(WriteAndDie<Durability::kWal, kSteps>, directory.path()), "ok");
  EXPECT_EQ(LastStep(*MustOpen(directory.path())), int64_t{kSteps} - 1);
}

TEST(RocksDbStorageTest, ProcessDeathInSyncModeLosesNothing) {
  constexpr uint64_t kFewSteps = 300;  // each waits for the disk
  const TestDirectory directory;
  ASSERT_EQ(RunInFreshProcess(WriteAndDie<Durability::kSync, kFewSteps>, directory.path()), "ok");
  EXPECT_EQ(LastStep(*MustOpen(directory.path())), int64_t{kFewSteps} - 1);
}

TEST(RocksDbStorageTest, ProcessDeathInCheckpointModeLeavesAPrefixFromTheLastFlushOn) {
  const TestDirectory directory;
  ASSERT_EQ(RunInFreshProcess(WriteAndDie<Durability::kCheckpoint, kSteps>, directory.path()), "ok");
  const int64_t last = LastStep(*MustOpen(directory.path(), Durability::kCheckpoint));
  EXPECT_GE(last, int64_t{kStepsFlushed} - 1);
  EXPECT_LT(last, int64_t{kSteps} - 1) << "nothing was lost: does this mode write a log?";
}

TEST(RocksDbStorageTest, ProcessDeathInCheckpointModeKeepsWhatWasFlushed) {
  const TestDirectory directory;
  ASSERT_EQ(RunInFreshProcess(WriteAndDie<Durability::kCheckpoint, kStepsFlushed>, directory.path()), "ok");
  EXPECT_EQ(LastStep(*MustOpen(directory.path())), int64_t{kStepsFlushed} - 1);
}

TEST(RocksDbStorageTest, LogCutInTheMiddleOfAWriteLosesThatWriteOnly) {
  const TestDirectory directory;
  const auto write_and_die = [](const std::string& path) {
    Storage* const storage = MustOpen(path).release();
    return WriteSteps(*storage, 0, 100).ToString();
  };
  ASSERT_EQ(RunInFreshProcess(write_and_die, directory.path()), "ok");
  std::vector<fs::path> logs = FilesWithExtension(directory.path(), ".log");
  const fs::path log = *std::max_element(logs.begin(), logs.end());
  fs::resize_file(log, fs::file_size(log) - 3);
  EXPECT_EQ(LastStep(*MustOpen(directory.path())), 98);
}

// ---- files that fail ----

// Flips one bit in the first data block of every table file.
void DamageTables(const std::string& directory) {
  for (const fs::path& path : FilesWithExtension(directory, ".sst")) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(100);
    const char byte = static_cast<char>(file.get() ^ 1);
    file.seekp(100);
    file.put(byte);
  }
}

TEST(RocksDbStorageTest, FlippedBitIsDataLossNeverAnAbsentRow) {
  const TestDirectory directory;
  std::unique_ptr<Storage> storage = MustOpen(directory.path());
  ASSERT_OK(PutRows(*storage, 0, 1000));
  ASSERT_OK(storage->Close());
  DamageTables(directory.path());
  storage = MustOpen(directory.path());
  EXPECT_TRUE(FailsWith(ReadRows(*storage, 1000), StatusCode::kDataLoss,
                        StrCat("read store '", directory.path(), "': group 1, 1000 keys: Corruption: ")));
  EXPECT_TRUE(FailsWith(ScanRows(*storage, 1000), StatusCode::kDataLoss,
                        StrCat("scan store '", directory.path(), "': group 1: Corruption: ")));
}

TEST(RocksDbStorageTest, ForeignKeyAmongTheRowsIsDataLoss) {
  const TestDirectory directory;
  ASSERT_OK(MustOpen(directory.path())->Close());
  {
    rocksdb::DB* db = nullptr;
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    ASSERT_TRUE(rocksdb::DB::Open(rocksdb::DBOptions(), directory.path(), {{"default", {}}, {"manifest", {}}},
                                  &handles, &db)
                    .ok());
    EXPECT_TRUE(db->Put(rocksdb::WriteOptions(), "\1short", "value").ok());
    for (rocksdb::ColumnFamilyHandle* const handle : handles) {
      ASSERT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
    }
    delete db;
  }
  EXPECT_TRUE(FailsWith(ScanRows(*MustOpen(directory.path()), 0), StatusCode::kDataLoss,
                        "group 1 has a key of 6 bytes, expected 9"));
}

// From here on files of this process may not grow beyond `bytes`: as on a full disk, writing fails.
void LimitFileSize(rlim_t bytes) {
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{bytes, RLIM_INFINITY};
  setrlimit(RLIMIT_FSIZE, &limit);
}

// Writes until it fails, then tries to go on with the cause gone. One line of report for each, and one for
// the number of the last step.
template <Durability durability>
std::string WriteUntilFilesAreFull(const std::string& directory) {
  Storage* const storage = MustOpen(directory, durability).release();
  Status status = WriteSteps(*storage, 0, 10);
  if (status.ok()) status = storage->Flush();
  if (!status.ok()) return status.ToString();
  LimitFileSize(50000);
  const Status failure = WriteSteps(*storage, 10, 100000);
  LimitFileSize(RLIM_INFINITY);
  const uint64_t next = std::stoull(**storage->GetManifest("step")) + 1;
  const Status write = WriteSteps(*storage, next, next + 10);
  const Status flush = storage->Flush();
  const Status close = storage->Close();
  return StrCat(failure.ToString(), "\n", write.ToString(), "\n", flush.ToString(), "\n", close.ToString(),
                "\n", next + 9);
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST(RocksDbStorageTest, WritingGoesOnOnceTheLogCanBeWrittenAgain) {
  const TestDirectory directory;
  const std::vector<std::string> report =
      Lines(RunInFreshProcess(WriteUntilFilesAreFull<Durability::kWal>, directory.path()));
  ASSERT_EQ(report.size(), 5u);
  EXPECT_EQ(report[0].find("I/O error: write to store '"), 0u) << report[0];
  EXPECT_NE(report[0].find("File too large"), std::string::npos) << report[0];
  for (int i = 1; i < 4; ++i) EXPECT_EQ(report[i], Status().ToString());
  EXPECT_EQ(StrCat(LastStep(*MustOpen(directory.path()))), report[4]);
}

// What is in memory only would be lost with the database.
TEST(RocksDbStorageTest, FailureOfABackgroundFlushWithoutALogEndsAllWriting) {
  const TestDirectory directory;
  const std::vector<std::string> report =
      Lines(RunInFreshProcess(WriteUntilFilesAreFull<Durability::kCheckpoint>, directory.path()));
  ASSERT_EQ(report.size(), 5u);
  constexpr const char* kBegins[] = {"write to store '", "write to store '", "flush store '",
                                     "close store '"};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(report[i].find(StrCat("I/O error: ", kBegins[i])), 0u) << report[i];
    EXPECT_NE(report[i].find("File too large"), std::string::npos) << report[i];
  }
  EXPECT_NE(report[1].find("close the store and open it again"), std::string::npos) << report[1];
  EXPECT_EQ(LastStep(*MustOpen(directory.path())), 9);
}

// ---- memory and files ----

// Versions of 8 MB of rows, over a budget that is smaller.
void WriteManyVersionsWithin(int64_t memory_budget, int64_t memtable_bytes) {
  constexpr uint64_t kKeys = 20000;
  const TestDirectory directory;
  RocksDbStorageOptions options;
  options.memory_budget = memory_budget;
  options.memtable_bytes = memtable_bytes;
  StorageOr opened = OpenRocksDbStorage(directory.path(), options);
  ASSERT_OK(opened.status());
  std::unique_ptr<Storage> storage = std::move(*opened);
  for (int version = 0; version < 5; ++version) {
    for (uint64_t begin = 0; begin < kKeys; begin += 500) {
      ASSERT_OK(PutRows(*storage, begin, begin + 500, version));
    }
    ASSERT_OK(ReadRows(*storage, kKeys, version));
    EXPECT_LE(storage->Stats()->block_cache_bytes, static_cast<uint64_t>(memory_budget));
  }
  ASSERT_OK(storage->Close());
  storage = MustOpen(directory.path());
  ASSERT_OK(ReadRows(*storage, kKeys, 4));
  ASSERT_OK(ScanRows(*storage, kKeys, 4));
}

TEST(RocksDbStorageTest, CompactionInASmallBudgetKeepsTheRowsAndTheBudget) {
  WriteManyVersionsWithin(StoreOptions::kMinMemoryBudget, 0);
}

TEST(RocksDbStorageTest, CompactionInTheSmallestBudgetKeepsTheRowsAndTheBudget) {
  WriteManyVersionsWithin(RocksDbStorageOptions::kMinMemoryBudget, 0);
}

TEST(RocksDbStorageTest, SmallMemtablesKeepTheRowsAndTheBudget) {
  WriteManyVersionsWithin(StoreOptions::kMinMemoryBudget, int64_t{64} << 10);
}

TEST(RocksDbStorageTest, StatsCountBlocksReadAndFound) {
  const TestDirectory directory;
  std::unique_ptr<Storage> storage = MustOpen(directory.path());
  ASSERT_OK(PutRows(*storage, 0, 1000));
  EXPECT_GT(storage->Stats()->disk_bytes, 400000u);  // the log
  ASSERT_OK(storage->Close());
  storage = MustOpen(directory.path());
  EXPECT_GT(storage->Stats()->disk_bytes, 400000u);  // the tables
  EXPECT_EQ(storage->Stats()->block_cache_misses, 0u);
  ASSERT_OK(ReadRows(*storage, 1000));
  const StorageStats cold = *storage->Stats();
  EXPECT_GT(cold.block_cache_misses, 50u);
  EXPECT_GT(cold.block_cache_bytes, 400000u);
  ASSERT_OK(ReadRows(*storage, 1000));
  EXPECT_EQ(storage->Stats()->block_cache_misses, cold.block_cache_misses);
  EXPECT_GT(storage->Stats()->block_cache_hits, cold.block_cache_hits);
}

TEST(RocksDbStorageTest, BlocksOfRowsAreNotKeptWhereRowsHaveACacheOfTheirOwn) {
  const TestDirectory directory;
  std::unique_ptr<Storage> storage = MustOpen(directory.path());
  ASSERT_OK(PutRows(*storage, 0, 1000));
  ASSERT_OK(storage->Close());
  RocksDbStorageOptions options;
  options.cache_row_blocks = false;
  StatusOr<std::unique_ptr<Storage>> opened = OpenRocksDbStorage(directory.path(), options);
  ASSERT_OK(opened.status());
  storage = std::move(*opened);
  const uint64_t bytes_before = storage->Stats()->block_cache_bytes;  // charged for memtables
  ASSERT_OK(ReadRows(*storage, 1000));
  const StorageStats first = *storage->Stats();
  EXPECT_GT(first.block_cache_misses, 50u);
  EXPECT_LT(first.block_cache_bytes - bytes_before, 50000u);  // indexes and filters
  ASSERT_OK(ReadRows(*storage, 1000));
  EXPECT_EQ(storage->Stats()->block_cache_misses, 2 * first.block_cache_misses);
  EXPECT_EQ(storage->Stats()->block_cache_bytes, first.block_cache_bytes);
}

}  // namespace
}  // namespace damo
