// SPDX-License-Identifier: Apache-2.0
//
// A storage whose filesystem fails: each operation of a short run in turn.
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/storage/rocksdb_storage.h"
#include "damo/storage/test_faults.h"

namespace damo {
namespace {

using StorageOr = StatusOr<std::unique_ptr<Storage>>;

constexpr uint64_t kKeys = 300;

// Every call of a run writes one version: all rows, and its number in the manifest. So what is there of a
// version tells whether it is whole.
std::string RowOf(uint64_t key, int version) {
  std::string row = "row " + std::to_string(key) + " version " + std::to_string(version) + " ";
  row.resize(100, 'x');
  return row;
}

template <typename Batch>
Status FillBatch(Batch& batch, int version) {
  for (uint64_t key = 0; key < kKeys; ++key) {
    DAMO_RETURN_IF_ERROR(batch.PutRow(1, key, RowOf(key, version)));
  }
  return batch.PutManifest("version", std::to_string(version));
}

Status WriteVersion(Storage& storage, int version) {
  const std::unique_ptr<StorageBatch> batch = storage.NewBatch();
  DAMO_RETURN_IF_ERROR(FillBatch(*batch, version));
  return storage.Write(*batch);
}

Status CommitVersion(Storage& storage, int version) {
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<SortedBatch> batch, storage.NewSortedBatch());
  DAMO_RETURN_IF_ERROR(FillBatch(*batch, version));
  return batch->Commit();
}

// The version all rows have, -1 where all are absent. Internal if they are not all of one.
StatusOr<int> ReadVersion(const Storage& storage) {
  DAMO_ASSIGN_OR_RETURN(const std::optional<std::string> value, storage.GetManifest("version"));
  const int version = value ? std::stoi(*value) : -1;
  std::vector<uint64_t> keys;
  for (uint64_t key = 0; key < kKeys; ++key) keys.push_back(key);
  DAMO_RETURN_IF_ERROR(storage.MultiGet(1, keys, [&](size_t key, std::optional<std::string_view> row) {
    const bool same = version < 0 ? !row : row == RowOf(key, version);
    return same ? Status() : Internal("version ", version, " has row ", key, " ", row.value_or("absent"));
  }));
  return version;
}

// Runs against one directory and remembers what was promised.
class FaultRun {
 public:
  FaultRun(std::string directory, Durability durability) : directory_(std::move(directory)), env_(plan_) {
    options_.memory_budget = StoreOptions::kMinMemoryBudget;
    options_.durability = durability;
    options_.env_for_test = &env_;
  }

  FaultPlan& plan() { return *plan_; }
  Storage* storage() { return storage_.get(); }

  Status Open() {
    StorageOr storage = OpenRocksDbStorage(directory_, options_);
    if (storage.ok()) storage_ = std::move(*storage);
    return storage.status();
  }

  // Ends it as the death of the process would.
  void Die() { storage_.reset(); }
  void LosePower() {
    storage_.reset();
    plan_->LosePower();
  }

  Status Close() {
    const Status status = storage_->Close();
    storage_.reset();
    return status;
  }

  using WriteFunction = Status (*)(Storage& storage, int version);
  Status Write(WriteFunction write) {
    const Status status = write(*storage_, ++last_tried_);
    if (status.ok()) {
      acknowledged_ = last_tried_;
      failed_commits_.clear();
    } else if (write == CommitVersion) {
      failed_commits_.insert(last_tried_);
    }
    return status;
  }

  // Writes, commits, reads, flushes. Calls that fail are passed over.
  void WriteAndRead() {
    for (const WriteFunction write : {WriteVersion, CommitVersion, WriteVersion, CommitVersion}) {
      Write(write).IgnoreError();
      ReadsAreTrueOrFail();
    }
    storage_->Flush().IgnoreError();
    Write(WriteVersion).IgnoreError();
    ReadsAreTrueOrFail();
  }

  // A commit that failed while it was recorded may be there once the database has been opened anew.
  void ReadsAreTrueOrFail() const {
    const StatusOr<int> version = ReadVersion(*storage_);
    if (version.ok()) {
      EXPECT_TRUE(*version == acknowledged_ || failed_commits_.count(*version) > 0)
          << "found " << *version << ", acknowledged " << acknowledged_;
    } else {
      EXPECT_TRUE(version.status().code() == StatusCode::kIoError ||
                  version.status().code() == StatusCode::kDataLoss)
          << version.status().ToString();
    }
  }

  // What was acknowledged is there. After a reopening a write that failed may be there too, but whole.
  void NothingIsLost() {
    const StatusOr<int> version = ReadVersion(*storage_);
    ASSERT_OK(version.status());
    EXPECT_GE(*version, acknowledged_);
    EXPECT_LE(*version, last_tried_);
    acknowledged_ = *version;
  }

  void EverythingWorks() {
    ASSERT_OK(Write(WriteVersion));
    ASSERT_OK(Write(CommitVersion));
    ASSERT_OK(Write(WriteVersion));
    ASSERT_OK(storage_->Flush());
    ASSERT_OK(Write(WriteVersion));
    NothingIsLost();
  }

 private:
  const std::string directory_;
  const std::shared_ptr<FaultPlan> plan_ = std::make_shared<FaultPlan>();
  FaultEnv env_;
  RocksDbStorageOptions options_;
  std::unique_ptr<Storage> storage_;
  int acknowledged_ = -1;
  int last_tried_ = -1;
  std::set<int> failed_commits_;  // since then
};

struct Case {
  std::string name;
  FileOperation operation;
  FaultKind kind;
  bool lasts;
};

void PrintTo(const Case& fault, std::ostream* out) { *out << fault.name; }

class RocksDbFaultTest : public testing::TestWithParam<Case> {
 protected:
  using Step = std::function<void(FaultRun&)>;

  // Repeats `run`, each time with a new directory and one operation later failing, until it ran without.
  // After each, with nothing failing any more, comes `aftermath`, and then the next opening.
  void AtEveryOperation(const Step& run, const Step& aftermath) {
    const Case& fault = GetParam();
    bool failed = true;
    for (int first = 0; failed; ++first) {
      SCOPED_TRACE(StrCat(fault.name, " ", first));
      const TestDirectory directory;
      FaultRun fault_run(directory.path(), Durability::kWal);
      ASSERT_OK(fault_run.Open());
      ASSERT_OK(fault_run.Write(WriteVersion));
      fault_run.plan().Set(FaultPlan::Fault{fault.operation, first, fault.lasts, fault.kind});
      run(fault_run);
      fault_run.plan().Set(std::nullopt);
      failed = fault_run.plan().num_failed() > 0;
      if (fault_run.storage() != nullptr) fault_run.ReadsAreTrueOrFail();
      ASSERT_NO_FATAL_FAILURE(aftermath(fault_run));
      fault_run.Die();
      ASSERT_OK(fault_run.Open());
      ASSERT_NO_FATAL_FAILURE(fault_run.NothingIsLost());
      ASSERT_NO_FATAL_FAILURE(fault_run.EverythingWorks());
      if (HasFailure()) return;
    }
  }
};

class RocksDbReopeningFaultTest : public RocksDbFaultTest {};

TEST_P(RocksDbFaultTest, WritingAndReading) {
  AtEveryOperation([](FaultRun& run) { run.WriteAndRead(); }, [](FaultRun&) {});
}

TEST_P(RocksDbFaultTest, ClosingAndOpening) {
  AtEveryOperation(
      [](FaultRun& run) {
        run.Close().IgnoreError();
        run.Open().IgnoreError();
      },
      [](FaultRun&) {});
}

TEST_P(RocksDbReopeningFaultTest, TheSameStorageGoesOnOnceNothingFails) {
  AtEveryOperation([](FaultRun& run) { run.WriteAndRead(); },
                   [](FaultRun& run) { ASSERT_NO_FATAL_FAILURE(run.EverythingWorks()); });
}

TEST(RocksDbReadFaultTest, ReadThatFailsIsNeverAnAbsentRow) {
  for (const bool lasts : {false, true}) {
    bool failed = true;
    for (int first = 0; failed; ++first) {
      SCOPED_TRACE(StrCat("read ", first, lasts ? " and all after it" : ""));
      const TestDirectory directory;
      FaultRun run(directory.path(), Durability::kWal);
      ASSERT_OK(run.Open());
      run.WriteAndRead();
      ASSERT_OK(run.Close());
      ASSERT_OK(run.Open());
      run.plan().Set(FaultPlan::Fault{FileOperation::kRead, first, lasts, FaultKind::kIoError});
      run.ReadsAreTrueOrFail();
      failed = run.plan().num_failed() > 0;
      run.plan().Set(std::nullopt);
      ASSERT_NO_FATAL_FAILURE(run.NothingIsLost());
    }
  }
}

// Files of batches are made in a folder of their own, so those that this fails are of compactions and of the
// attempts to open the database anew.
TEST(RocksDbCompactionFaultTest, TheSameStorageGoesOnOnceCompactionsHaveRoom) {
  for (const FileOperation operation :
       {FileOperation::kCreate, FileOperation::kWrite, FileOperation::kSync}) {
    for (int first = 0; first < 4; ++first) {
      SCOPED_TRACE(StrCat("operation ", static_cast<int>(operation), ", from number ", first, " on"));
      const TestDirectory directory;
      FaultRun run(directory.path(), Durability::kSync);
      ASSERT_OK(run.Open());
      ASSERT_OK(run.Write(CommitVersion));
      run.plan().Set(FaultPlan::Fault{operation, first, /*lasts=*/true, FaultKind::kNoSpace, "/0"});
      Status committed;
      // Commits wait for a compaction when many files lie in level 0.
      while (committed.ok() && run.plan().num_failed() < 3) committed = run.Write(CommitVersion);
      if (operation == FileOperation::kCreate) {
        committed = run.Write(CommitVersion);
        EXPECT_TRUE(FailsWith(committed, StatusCode::kIoError, "its database could not be opened anew"));
      }
      run.ReadsAreTrueOrFail();
      run.plan().Set(std::nullopt);
      for (int commit = 0; commit < 30; ++commit) ASSERT_OK(run.Write(CommitVersion));
      ASSERT_NO_FATAL_FAILURE(run.EverythingWorks());
      run.Die();
      ASSERT_OK(run.Open());
      ASSERT_NO_FATAL_FAILURE(run.NothingIsLost());
      if (testing::Test::HasFailure()) return;
    }
  }
}

// Makes the database fail, and be opened anew by a write.
void FailAndGoOn(FaultRun& run) {
  run.plan().Set(FaultPlan::Fault{FileOperation::kWrite, 0, /*lasts=*/true, FaultKind::kNoSpace});
  EXPECT_FALSE(run.Write(WriteVersion).ok());
  run.plan().Set(std::nullopt);
  EXPECT_TRUE(IsOk(run.Write(WriteVersion)));
}

TEST(RocksDbReopeningTest, ReadsUnderWayGoOnAsOfTheirMoment) {
  const TestDirectory directory;
  FaultRun run(directory.path(), Durability::kWal);
  ASSERT_OK(run.Open());
  ASSERT_OK(run.Write(CommitVersion));
  uint64_t next = 0;
  const auto check = [&](uint64_t key, std::string_view row) {
    if (key == 10) FailAndGoOn(run);
    return key == next++ && row == RowOf(key, 0) ? Status() : Internal("row ", key, " is ", row);
  };
  ASSERT_OK(run.storage()->Scan(1, check));
  EXPECT_EQ(next, kKeys);
  run.NothingIsLost();

  ASSERT_OK(run.storage()->Flush());
  std::vector<uint64_t> keys(kKeys);
  std::iota(keys.begin(), keys.end(), uint64_t{0});
  ASSERT_OK(run.storage()->MultiGet(1, keys, [&](size_t key, std::optional<std::string_view> row) {
    if (key == 10) FailAndGoOn(run);
    return row == RowOf(key, 2) ? Status() : Internal("row ", key, " is ", row.value_or("absent"));
  }));
  run.NothingIsLost();
}

TEST(RocksDbReopeningTest, CommitThatFailedWhileItWasRecordedIsSettled) {
  for (const FileOperation operation : {FileOperation::kWrite, FileOperation::kSync}) {
    const TestDirectory directory;
    FaultRun run(directory.path(), Durability::kSync);
    ASSERT_OK(run.Open());
    ASSERT_OK(run.Write(CommitVersion));
    // The first of them takes file numbers, the second records the batch.
    run.plan().Set(FaultPlan::Fault{operation, 1, /*lasts=*/true, FaultKind::kIoError, "MANIFEST"});
    EXPECT_FALSE(run.Write(CommitVersion).ok());
    EXPECT_TRUE(FailsWith(run.storage()->SettleCommit().status(), StatusCode::kIoError,
                          "find out whether a batch that failed is in store '"));
    EXPECT_EQ(*ReadVersion(*run.storage()), 0) << "nobody knows yet";
    run.plan().Set(std::nullopt);
    const StatusOr<bool> in_doubt = run.storage()->SettleCommit();
    ASSERT_OK(in_doubt.status());
    EXPECT_TRUE(*in_doubt);
    EXPECT_FALSE(*run.storage()->SettleCommit()) << "settled";
    const int version = *ReadVersion(*run.storage());
    EXPECT_EQ(version, operation == FileOperation::kSync ? 1 : 0);
    run.LosePower();
    ASSERT_OK(run.Open());
    EXPECT_EQ(*ReadVersion(*run.storage()), version);
  }
}

TEST(RocksDbReopeningTest, CommitThatFailedBeforeItWasRecordedIsInNoDoubt) {
  const TestDirectory directory;
  FaultRun run(directory.path(), Durability::kSync);
  ASSERT_OK(run.Open());
  ASSERT_OK(run.Write(CommitVersion));
  EXPECT_FALSE(*run.storage()->SettleCommit());
  run.plan().Set(FaultPlan::Fault{FileOperation::kSync, 0, /*lasts=*/true, FaultKind::kIoError, ".sst"});
  EXPECT_FALSE(run.Write(CommitVersion).ok());
  EXPECT_FALSE(*run.storage()->SettleCommit());
  run.plan().Set(std::nullopt);
  run.EverythingWorks();
}

TEST(RocksDbReopeningTest, BatchesUnderWayAreWrittenToTheNewDatabase) {
  const TestDirectory directory;
  FaultRun run(directory.path(), Durability::kWal);
  ASSERT_OK(run.Open());
  StatusOr<std::unique_ptr<SortedBatch>> sorted = run.storage()->NewSortedBatch();
  ASSERT_OK(sorted.status());
  ASSERT_OK((*sorted)->PutRow(2, 7, "sorted"));
  const std::unique_ptr<StorageBatch> batch = run.storage()->NewBatch();
  ASSERT_OK(batch->PutRow(2, 8, "batch"));
  FailAndGoOn(run);
  ASSERT_OK((*sorted)->Commit());
  ASSERT_OK(run.storage()->Write(*batch));
  const uint64_t keys[] = {7, 8};
  std::vector<std::string> rows;
  ASSERT_OK(run.storage()->MultiGet(2, keys, [&](size_t, std::optional<std::string_view> row) {
    rows.emplace_back(row.value_or("absent"));
    return Status();
  }));
  EXPECT_EQ(rows, (std::vector<std::string>{"sorted", "batch"}));
  run.NothingIsLost();
}

// The log has the record of a write whose sync failed.
TEST(RocksDbReopeningTest, WriteThatFailedDoesNotComeBack) {
  const TestDirectory directory;
  FaultRun run(directory.path(), Durability::kSync);
  ASSERT_OK(run.Open());
  ASSERT_OK(run.Write(WriteVersion));
  for (int round = 0; round < 2; ++round) {
    run.plan().Set(FaultPlan::Fault{FileOperation::kSync, 0, /*lasts=*/false, FaultKind::kIoError, ".log"});
    EXPECT_FALSE(run.Write(WriteVersion).ok());
    run.plan().Set(std::nullopt);
    ASSERT_OK(run.storage()->Flush());
    const StatusOr<int> version = ReadVersion(*run.storage());
    ASSERT_OK(version.status());
    EXPECT_EQ(*version, 0);
  }
  ASSERT_NO_FATAL_FAILURE(run.EverythingWorks());
}

TEST(RocksDbReopeningTest, ReadersNoticeNothing) {
  const TestDirectory directory;
  FaultRun run(directory.path(), Durability::kWal);
  ASSERT_OK(run.Open());
  ASSERT_OK(run.Write(CommitVersion));
  std::atomic<bool> done{false};
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&] {
      const Storage& storage = *run.storage();
      while (!done) {
        EXPECT_TRUE(IsOk(storage.Scan(1, [](uint64_t, std::string_view) { return Status(); })));
        EXPECT_TRUE(IsOk(storage.GetManifest("version").status()));
        EXPECT_TRUE(IsOk(storage.Stats().status()));
      }
    });
  }
  for (int round = 0; round < 10; ++round) {
    FailAndGoOn(run);
    EXPECT_TRUE(IsOk(run.Write(CommitVersion)));
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  run.NothingIsLost();
}

// Rows that fill a file of several megabytes, so that its edges are a small part of it.
Status CommitLargeFile(Storage& storage) {
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<SortedBatch> batch, storage.NewSortedBatch());
  for (uint64_t key = 0; key < 30'000; ++key) DAMO_RETURN_IF_ERROR(batch->PutRow(2, key, RowOf(key, 0)));
  DAMO_RETURN_IF_ERROR(batch->PutManifest("large", "there"));
  return batch->Commit();
}

StatusOr<uint64_t> CountRows(const Storage& storage, uint8_t group) {
  uint64_t num_rows = 0;
  DAMO_RETURN_IF_ERROR(storage.Scan(group, [&](uint64_t, std::string_view) {
    ++num_rows;
    return Status();
  }));
  return num_rows;
}

// RocksDB does not check its reads of a file that it takes over: only those of its edges may reach the disk.
TEST(RocksDbIngestionReadTest, ReadThatFailsFailsTheBatchAndTheNextOneSucceeds) {
  constexpr int kReads = 3;  // head and tail of the file of rows, all of the manifest's
  for (const bool lasts : {false, true}) {
    for (int first = 0; first <= kReads; ++first) {
      SCOPED_TRACE(StrCat("read ", first, lasts ? " and all after it" : ""));
      const TestDirectory directory;
      FaultRun run(directory.path(), Durability::kSync);
      ASSERT_OK(run.Open());
      ASSERT_OK(run.Write(CommitVersion));
      run.plan().Set(FaultPlan::Fault{FileOperation::kRead, first, lasts, FaultKind::kIoError, "/ingest/"});
      const Status committed = CommitLargeFile(*run.storage());
      run.plan().Set(std::nullopt);
      EXPECT_EQ(committed.code(), first < kReads ? StatusCode::kIoError : StatusCode::kOk)
          << committed.ToString();
      const bool there = committed.ok();
      EXPECT_EQ(*CountRows(*run.storage(), 2), there ? 30'000u : 0u);
      EXPECT_EQ(run.storage()->GetManifest("large")->has_value(), there);
      ASSERT_OK(CommitLargeFile(*run.storage()));
      EXPECT_EQ(*CountRows(*run.storage(), 2), 30'000u);
      ASSERT_NO_FATAL_FAILURE(run.EverythingWorks());
    }
  }
}

TEST(RocksDbPowerLossTest, SortedBatchAndAllBeforeItSurvive) {
  for (const Durability durability : {Durability::kWal, Durability::kSync, Durability::kCheckpoint}) {
    SCOPED_TRACE(DurabilityName(durability));
    const TestDirectory directory;
    FaultRun run(directory.path(), durability);
    ASSERT_OK(run.Open());
    for (int round = 0; round < 3; ++round) {
      ASSERT_OK(run.Write(WriteVersion));
      ASSERT_OK(run.Write(CommitVersion));
      run.LosePower();
      ASSERT_OK(run.Open());
      ASSERT_NO_FATAL_FAILURE(run.NothingIsLost());
    }
  }
}

std::vector<Case> AllCases() {
  const std::pair<std::string, FileOperation> operations[] = {
      {"Create", FileOperation::kCreate}, {"Write", FileOperation::kWrite},
      {"Sync", FileOperation::kSync},     {"Rename", FileOperation::kRename},
      {"Link", FileOperation::kLink},     {"SyncDirectory", FileOperation::kSyncDirectory},
      {"Read", FileOperation::kRead}};
  std::vector<Case> cases;
  for (const auto& [name, operation] : operations) {
    for (const bool lasts : {false, true}) {
      const std::string suffix = lasts ? "Lasting" : "Once";
      cases.push_back({name + "IoError" + suffix, operation, FaultKind::kIoError, lasts});
      if (operation == FileOperation::kRead) continue;
      cases.push_back({name + "NoSpace" + suffix, operation, FaultKind::kNoSpace, lasts});
    }
  }
  return cases;
}

// A full disk stays full, another failure comes once: the rest takes its time and tells nothing new.
std::vector<Case> ReopeningCases() {
  std::vector<Case> cases;
  for (const Case& fault : AllCases()) {
    if (fault.lasts == (fault.kind == FaultKind::kNoSpace)) cases.push_back(fault);
  }
  return cases;
}

const auto kCaseName = [](const testing::TestParamInfo<Case>& info) { return info.param.name; };

INSTANTIATE_TEST_SUITE_P(All, RocksDbFaultTest, testing::ValuesIn(AllCases()), kCaseName);
INSTANTIATE_TEST_SUITE_P(All, RocksDbReopeningFaultTest, testing::ValuesIn(ReopeningCases()), kCaseName);

// ---- images ----

class ImageFaultTest : public testing::Test {
 protected:
  void SetUp() override {
    RocksDbStorageOptions options;
    options.env_for_test = &env_;
    StorageOr storage = OpenRocksDbStorage(directory_ / "store", options);
    ASSERT_OK(storage.status());
    storage_ = std::move(*storage);
    ASSERT_OK(CommitVersion(*storage_, 1));
    ASSERT_OK(WriteVersion(*storage_, 2));
    StatusOr<std::unique_ptr<StorageImage>> image = storage_->NewImage();
    ASSERT_OK(image.status());
    image_ = std::move(*image);
  }

  StatusOr<std::vector<StorageFile>> WriteCopy(const std::string& name) {
    std::filesystem::create_directory(directory_ / name);
    return image_->WriteTo(directory_ / name, nullptr);
  }

  void ExpectWhole(const std::string& name) {
    const StorageOr copy = OpenRocksDbStorage(directory_ / name, RocksDbStorageOptions());
    ASSERT_OK(copy.status());
    EXPECT_EQ(*ReadVersion(**copy), 2);
  }

  TestDirectory directory_;
  std::shared_ptr<FaultPlan> plan_ = std::make_shared<FaultPlan>();
  FaultEnv env_{plan_};
  std::unique_ptr<Storage> storage_;
  std::unique_ptr<StorageImage> image_;  // goes before storage_
};

TEST_F(ImageFaultTest, WhereThereAreNoLinksFilesAreCopied) {
  plan_->Set(FaultPlan::Fault{FileOperation::kLink, 0, /*lasts=*/true, FaultKind::kIoError});
  const StatusOr<std::vector<StorageFile>> files = WriteCopy("copy");
  ASSERT_OK(files.status());
  EXPECT_GT(plan_->num_failed(), 0);
  for (const StorageFile& file : *files) EXPECT_TRUE(file.crc32c) << file.name;
  ExpectWhole("copy");
}

TEST_F(ImageFaultTest, AFileThatCannotBeWrittenOrReadFailsItAndTheNextMaySucceed) {
  for (const FileOperation operation : {FileOperation::kCreate, FileOperation::kWrite, FileOperation::kSync,
                                        FileOperation::kRead, FileOperation::kSyncDirectory}) {
    int at = 0;
    for (;; ++at) {
      const std::string name = std::to_string(static_cast<int>(operation)) + "-" + std::to_string(at);
      SCOPED_TRACE(name);
      plan_->Set(FaultPlan::Fault{operation, at, false, FaultKind::kNoSpace});
      const Status status = WriteCopy(name).status();
      if (plan_->num_failed() == 0) {
        EXPECT_TRUE(IsOk(status));
        ExpectWhole(name);
        break;
      }
      EXPECT_TRUE(FailsWith(status, StatusCode::kIoError, "injected"));
    }
    EXPECT_GT(at, 0);
  }
}

}  // namespace
}  // namespace damo
