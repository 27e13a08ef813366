// SPDX-License-Identifier: Apache-2.0
//
// A store whose disk fails: each operation of a short run in turn, of the redo log and of the storage. What
// was acknowledged must be there when the store is opened again, and a call that failed must have done
// nothing.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/redo/test_log_file_system.h"
#include "damo/storage/memory_storage.h"
#include "damo/storage/rocksdb_storage.h"
#include "damo/storage/test_faults.h"
#include "damo/table/store.h"
#include "damo/table/test_tables.h"

namespace damo {
namespace {

constexpr int kCalls = 4;
constexpr int kCallsPerFlush = 2;

// What a run applies.
struct Workload {
  GroupConfig config;
  size_t batch_size;
  uint64_t num_keys;
};

// With a filter: a call that failed must not have counted either, and one that did not exactly once.
Workload SmallCalls() {
  Workload workload{TableConfig(1, 4, "adam", "random_normal"), 80, 300};
  workload.config.min_count = 2;
  workload.config.filter_capacity = 1000;
  return workload;
}

// Where no call of the log is to fail, the wait for the disk is left out: it takes most of a run's time, and
// no power is lost.
class UnsyncedLogFileSystem final : public ForwardingLogFileSystem {
 public:
  int SyncData(int /*fd*/) override { return 0; }
  int SyncDirectory(const std::string& /*path*/) override { return 0; }
};

// The cache has room for some 50 of the rows.
Workload CallsLargerThanTheCache() { return {TableConfig(1, 2048, "adam", "random_normal"), 100, 200}; }

// A store on disk and its model. The model is told of what the store has acknowledged, or says that it will
// do.
class FaultyRun {
 public:
  explicit FaultyRun(Durability durability, Workload workload = SmallCalls())
      : durability_(durability), workload_(std::move(workload)), env_(plan_), model_(MakeModel()) {}
  ~FaultyRun() { store_.reset(); }

  FaultPlan& plan() { return *plan_; }
  EmbeddingTable& table() { return *table_; }
  std::string path() const { return directory_ / "store"; }

  Status Open() { return Open(&unsynced_log_files_); }
  Status Open(LogFileSystem* log_files) {
    table_.reset();
    store_.reset();
    RocksDbStorageOptions storage_options;
    storage_options.memory_budget = PlanMemory(StoreOptions::kMinMemoryBudget).storage_bytes;
    storage_options.durability = Durability::kSync;
    storage_options.env_for_test = &env_;
    DAMO_ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenRocksDbStorage(path(), storage_options));
    StoreOptions options;
    options.memory_budget = StoreOptions::kMinMemoryBudget;
    options.durability = durability_;
    DAMO_ASSIGN_OR_RETURN(store_, Store::Open(path(), options, std::move(storage), &clock_, log_files));
    DAMO_ASSIGN_OR_RETURN(table_, store_->AddGroup(workload_.config));
    return Status();
  }

  // Ends the store as it is. What Close() could not do is left for the next opening.
  void Close() {
    table_.reset();
    if (store_ != nullptr) store_->Close().IgnoreError();
    store_.reset();
  }

  // A store whose process has died with calls in its log that are not in the storage.
  void LeaveWorkToRecover() {
    ASSERT_OK(Open());
    ASSERT_TRUE(Work());
    for (int call = 0; call < kCallsPerFlush; ++call) ASSERT_TRUE(ApplyNext());
    CopyLiveDirectory(path(), directory_ / "left");
    Close();
    std::filesystem::remove_all(path());
    std::filesystem::rename(directory_ / "left", path());
    ASSERT_NE(RedoSegments(path()), std::vector<std::string>());
  }

  // Ends it as it should end: nothing is left to be recovered.
  void CloseWithoutRedo() {
    table_.reset();
    ASSERT_OK(store_->Close());
    store_.reset();
    EXPECT_EQ(RedoSegments(path()), std::vector<std::string>());
  }

  // Calls that apply and flush. Returns whether all of them succeeded.
  bool Work(bool can_read = true) {
    bool all = true;
    for (int call = 0; call < kCalls; ++call) {
      all &= ApplyNext(can_read);
      if ((call + 1) % kCallsPerFlush == 0) all &= Flush();
    }
    return all;
  }

  bool Flush() {
    const bool flushed = store_->Flush().ok();
    if (!flushed) return false;
    flushed_steps_ = model().step();
    unfinished_ = false;
    return true;
  }

  // A call that is not acknowledged must leave the store as the model is, unless it says that it stands.
  bool ApplyNext(bool can_read = true) {
    const Batch batch = RandomBatch(random_, workload_.batch_size, workload_.num_keys, workload_.config.dim);
    const StatusOr<ApplyResult> result = TryApply(*table_, batch);
    const Status& applied = result.status();
    if (applied.ok()) {
      const ApplyResult expected = ApplyToModel(batch);
      EXPECT_EQ(expected.num_inserted, result->num_inserted) << "a row that was there began anew";
      EXPECT_EQ(expected.num_blocked, result->num_blocked) << "a call has counted twice, or not at all";
      unfinished_ = false;
      return true;
    }
    EXPECT_EQ(applied.code(), StatusCode::kIoError) << applied.ToString();
    if (applied.message().find("the call is in the redo log and must not be repeated") != std::string::npos) {
      EXPECT_FALSE(unfinished_) << "a call was begun after one that is not finished";
      ApplyToModel(batch);
      unfinished_ = true;
      ++num_unfinished_;
      return false;
    }
    const bool applied_all_the_same =
        applied.message().find("the call is applied and must not be repeated") != std::string::npos;
    if (applied_all_the_same) ApplyToModel(batch);
    if (!unfinished_ && can_read) ExpectSame();
    return false;
  }

  // Calls so far that were left unfinished.
  int num_unfinished() const { return num_unfinished_; }

  // Opens without faults: all that was acknowledged is there, work goes on, and closing leaves no log. Below
  // "checkpoint" it is the effects of the first calls, of those before the last flush at least.
  void ExpectAllThere() {
    Close();
    plan_->Set(std::nullopt);
    ASSERT_OK(Open());
    if (durability_ == Durability::kCheckpoint) {
      ASSERT_GE(table_->step(), flushed_steps_);
      ASSERT_LE(table_->step(), model().step());
      if (table_->step() < model().step()) TakeModelBackTo(table_->step());
      ExpectSame();
      CloseWithoutRedo();
      return;
    }
    unfinished_ = false;
    ExpectSame();
    EXPECT_TRUE(Work());
    ExpectSame();
    EXPECT_TRUE(ApplyNext());
    CloseWithoutRedo();
  }

  void ExpectSame() { EXPECT_TRUE(SameTables(*table_, model(), KeyRange(0, workload_.num_keys))); }

 private:
  EmbeddingTable& model() { return *model_table_; }

  ApplyResult ApplyToModel(const Batch& batch) {
    applied_.push_back(batch);
    return Apply(model(), batch);
  }

  // Makes it what it was after its first `num_calls` calls.
  void TakeModelBackTo(int64_t num_calls) {
    applied_.resize(num_calls);
    model_.reset();
    model_rows_ = NewMemoryStorage();
    model_ = MakeModel();
    for (const Batch& batch : applied_) Apply(model(), batch);
  }

  std::unique_ptr<TestTables> MakeModel() {
    TestTables::Options options;
    options.kind = TableKind::kDirect;
    auto model = std::make_unique<TestTables>(model_rows_.get(), &clock_, options);
    model_table_ = model->Add(workload_.config);
    return model;
  }

  const Durability durability_;
  const Workload workload_;
  const TestDirectory directory_;
  FakeClock clock_{1'000'000};
  std::mt19937_64 random_{3};
  std::shared_ptr<FaultPlan> plan_ = std::make_shared<FaultPlan>();
  FaultEnv env_;
  UnsyncedLogFileSystem unsynced_log_files_;
  std::unique_ptr<Storage> model_rows_ = NewMemoryStorage();
  EmbeddingTable* model_table_ = nullptr;
  std::unique_ptr<TestTables> model_;
  std::vector<Batch> applied_;  // to the model
  std::unique_ptr<Store> store_;
  std::shared_ptr<EmbeddingTable> table_;
  bool unfinished_ = false;  // the last call that was begun
  int num_unfinished_ = 0;
  int64_t flushed_steps_ = 0;
};

class StoreFaultTest : public testing::TestWithParam<Durability> {};

INSTANTIATE_TEST_SUITE_P(Modes, StoreFaultTest,
                         testing::Values(Durability::kWal, Durability::kSync, Durability::kCheckpoint),
                         [](const auto& info) { return std::string(DurabilityName(info.param)); });

TEST_P(StoreFaultTest, NoCallOfTheRedoLogThatFailsLosesWhatWasAcknowledged) {
  for (const bool lasts : {false, true}) {
    for (Fault fault{0, lasts ? ENOSPC : EIO, lasts, /*half_writes=*/true, /*drops_pages=*/!lasts};;
         ++fault.at) {
      SCOPED_TRACE(StrCat("call ", fault.at, lasts ? " and all later ones fail" : " fails"));
      TestLogFileSystem log_files;
      FaultyRun run(GetParam());
      ASSERT_OK(run.Open(&log_files));  // the directory is made
      run.Close();
      log_files.set_fault(fault);
      const Status opened = run.Open(&log_files);
      if (opened.ok()) run.Work();
      if (log_files.failed_call().empty()) break;
      run.ExpectAllThere();
      if (testing::Test::HasFailure()) return;
    }
  }
}

// A store whose process has died reads its log, brings it into the storage and deletes it.
TEST_P(StoreFaultTest, NoCallOfTheRedoLogThatFailsInARecoveryLosesWhatWasAcknowledged) {
  if (GetParam() == Durability::kCheckpoint) return;  // recovers nothing
  std::set<std::string> failed_calls;
  for (const bool lasts : {false, true}) {
    for (Fault fault{0, lasts ? ENOSPC : EIO, lasts, /*half_writes=*/true, /*drops_pages=*/!lasts};;
         ++fault.at) {
      SCOPED_TRACE(StrCat("call ", fault.at, lasts ? " and all later ones fail" : " fails"));
      TestLogFileSystem log_files;
      FaultyRun run(GetParam());
      ASSERT_NO_FATAL_FAILURE(run.LeaveWorkToRecover());
      log_files.AddDurable(run.path() + "/redo");
      log_files.set_fault(fault);
      const Status opened = run.Open(&log_files);
      if (opened.ok()) run.ApplyNext();
      if (log_files.failed_call().empty()) break;
      failed_calls.insert(log_files.failed_call());
      run.ExpectAllThere();
      if (testing::Test::HasFailure()) return;
    }
  }
  for (const char* const call : {"OpenToRead", "Read", "Open", "SyncData", "Unlink", "SyncDirectory"}) {
    EXPECT_EQ(failed_calls.count(call), 1U) << call << " was never made";
  }
}

// Sanitizers look for other things than the last operation.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kEvery = 7;
#else
constexpr int kEvery = 1;
#endif

// Calls `run_with` with operation n of each kind failing, in every way that it can, for n = 0, `every`,
// 2 * `every` and so on, until that returns false: the run was over before. Where all later ones fail, too,
// the next n makes little difference; so it does where there are many operations, which are reads.
void AtEveryOperation(const std::vector<FileOperation>& operations, int every,
                      const std::function<bool(const FaultPlan::Fault& fault)>& run_with) {
  for (const FileOperation operation : operations) {
    const bool reads = operation == FileOperation::kRead;
    for (const FaultKind kind : {FaultKind::kNoSpace, FaultKind::kIoError}) {
      if (reads && kind == FaultKind::kNoSpace) continue;
      for (const bool lasts : {false, true}) {
        const int step = lasts ? 3 * every : every;
        for (FaultPlan::Fault fault{operation, 0, lasts, kind};;
             fault.first += step + (reads ? fault.first / 16 : 0)) {
          SCOPED_TRACE(StrCat("operation ", static_cast<int>(operation), ", number ", fault.first,
                              lasts ? " and all later ones fail" : " fails",
                              kind == FaultKind::kNoSpace ? " for want of space" : ""));
          const bool failed = run_with(fault);
          if (testing::Test::HasFailure()) return;
          EXPECT_TRUE(failed || fault.first > 0) << "there was no such operation";
          if (!failed) break;
        }
      }
    }
  }
}

// Of a storage whose every operation fails in turn below "wal". Below the others, which differ in what the
// log does, some do.
class StoreStorageFaultTest : public StoreFaultTest {
 protected:
  static int every() { return GetParam() == Durability::kWal ? kEvery : 9 * kEvery; }
};

INSTANTIATE_TEST_SUITE_P(Modes, StoreStorageFaultTest,
                         testing::Values(Durability::kWal, Durability::kSync, Durability::kCheckpoint),
                         [](const auto& info) { return std::string(DurabilityName(info.param)); });

// What calls and flushes do. They rename nothing, and begin with no row that could be read.
const std::vector<FileOperation>& OperationsOfWork() {
  static const auto* const operations =
      new std::vector<FileOperation>{FileOperation::kCreate, FileOperation::kWrite, FileOperation::kSync,
                                     FileOperation::kLink, FileOperation::kSyncDirectory};
  return *operations;
}

TEST_P(StoreStorageFaultTest, NoOperationThatFailsLosesWhatWasAcknowledged) {
  AtEveryOperation(OperationsOfWork(), every(), [](const FaultPlan::Fault& fault) {
    FaultyRun run(GetParam());
    EXPECT_TRUE(IsOk(run.Open()));
    run.plan().Set(fault);
    run.Work();
    run.Close();
    const bool failed = run.plan().num_failed() > 0;
    run.ExpectAllThere();
    return failed;
  });
}

TEST_P(StoreStorageFaultTest, WorkGoesOnOnceNoOperationFailsAnyMore) {
  AtEveryOperation(OperationsOfWork(), every(), [](const FaultPlan::Fault& fault) {
    FaultyRun run(GetParam());
    EXPECT_TRUE(IsOk(run.Open()));
    run.plan().Set(fault);
    run.Work();
    const bool failed = run.plan().num_failed() > 0;
    run.plan().Set(std::nullopt);
    EXPECT_TRUE(run.Work());
    EXPECT_TRUE(run.ApplyNext());
    run.ExpectSame();
    run.CloseWithoutRedo();
    return failed;
  });
}

TEST_P(StoreStorageFaultTest, NoOperationThatFailsInARecoveryLosesWhatWasAcknowledged) {
  if (GetParam() == Durability::kCheckpoint) return;  // recovers nothing
  std::vector<FileOperation> operations = OperationsOfWork();
  operations.push_back(FileOperation::kRename);
  operations.push_back(FileOperation::kRead);
  AtEveryOperation(operations, every(), [](const FaultPlan::Fault& fault) {
    FaultyRun run(GetParam());
    run.LeaveWorkToRecover();
    run.plan().Set(fault);
    if (run.Open().ok()) run.ApplyNext(/*can_read=*/fault.operation != FileOperation::kRead);
    const bool failed = run.plan().num_failed() > 0;
    run.ExpectAllThere();
    return failed;
  });
}

TEST_P(StoreFaultTest, NoReadThatFailsStartsARowAnew) {
  AtEveryOperation({FileOperation::kRead}, kEvery, [](const FaultPlan::Fault& fault) {
    FaultyRun run(GetParam());
    EXPECT_TRUE(IsOk(run.Open()));
    EXPECT_TRUE(run.Work());
    run.Close();
    EXPECT_TRUE(IsOk(run.Open()));
    run.plan().Set(fault);
    for (int call = 0; call < kCalls; ++call) run.ApplyNext(/*can_read=*/false);
    const bool failed = run.plan().num_failed() > 0;
    run.plan().Set(std::nullopt);
    run.ExpectSame();
    run.ExpectAllThere();
    return failed;
  });
}

TEST_P(StoreFaultTest, WorkGoesOnWhenTheRedoLogHasRoomAgain) {
  if (GetParam() == Durability::kCheckpoint) return;  // logs nothing
  TestLogFileSystem log_files;
  FaultyRun run(GetParam());
  ASSERT_OK(run.Open(&log_files));
  EXPECT_TRUE(run.Work());
  for (int round = 0; round < 3; ++round) {
    // Room is short for new records and segments, not for cutting half a record off.
    log_files.set_fault(Fault{0, ENOSPC, false, false});
    EXPECT_FALSE(run.ApplyNext());
    EXPECT_TRUE(run.Work());
    run.ExpectSame();
  }
  EXPECT_TRUE(run.ApplyNext());
  run.CloseWithoutRedo();
  run.ExpectAllThere();
}

// The kernel says once that it could not write, and may have dropped what it could not: the rows in memory
// are then all there is.
TEST_P(StoreFaultTest, SyncOfTheRedoLogThatFailsCostsNothing) {
  if (GetParam() == Durability::kCheckpoint) return;  // logs nothing
  for (const int error : {EIO, ENOSPC}) {
    TestLogFileSystem log_files;
    FaultyRun run(GetParam());
    ASSERT_OK(run.Open(&log_files));
    EXPECT_TRUE(run.Work());
    for (int round = 0; round < 3; ++round) {
      // The first record of a log is three calls: a segment, its header, the record.
      log_files.set_fault(Fault{3, error, false, false, /*drops_pages=*/true});
      EXPECT_TRUE(run.ApplyNext());
      EXPECT_TRUE(run.Flush());
      EXPECT_EQ(log_files.failed_call(), "SyncData");
      log_files.set_fault(Fault());
      run.ExpectSame();
      EXPECT_TRUE(run.Work());
    }
    EXPECT_TRUE(run.ApplyNext());
    if (error == EIO) run.CloseWithoutRedo();
    run.ExpectAllThere();
  }
}

// As it does if a sync that another call or a flush waits for fails between this call's beginning and its
// record.
TEST_P(StoreFaultTest, CallThatFindsTheRedoLogFailedIsAppliedAllTheSame) {
  if (GetParam() == Durability::kCheckpoint) return;  // logs nothing
  TestLogFileSystem log_files;
  FaultyRun run(GetParam());
  ASSERT_OK(run.Open(&log_files));
  for (int round = 0; round < 3; ++round) {
    EXPECT_TRUE(run.ApplyNext());
    // The record is not written, and what may have been written of it cannot be cut off.
    log_files.set_fault(Fault{0, EIO, false, false, false, /*num_more=*/1});
    EXPECT_TRUE(run.ApplyNext());
    EXPECT_EQ(log_files.failed_call(), "WriteV");
    log_files.set_fault(Fault());
    run.ExpectSame();
    EXPECT_TRUE(run.Work());
  }
  EXPECT_TRUE(run.ApplyNext());
  run.CloseWithoutRedo();
  run.ExpectAllThere();
}

// As a disk does that is full for the storage, too.
TEST_P(StoreFaultTest, WorkGoesOnAfterTheRedoLogHasFailedAndTheStorageHadNoRoom) {
  if (GetParam() == Durability::kCheckpoint) return;  // logs nothing
  TestLogFileSystem log_files;
  FaultyRun run(GetParam());
  ASSERT_OK(run.Open(&log_files));
  EXPECT_TRUE(run.Work());
  EXPECT_TRUE(run.ApplyNext());
  log_files.set_fault(Fault{1, ENOSPC, false, false, /*drops_pages=*/true});
  run.plan().Set(FaultPlan::Fault{FileOperation::kLink, 0, true, FaultKind::kNoSpace});  // after that sync
  EXPECT_EQ(run.ApplyNext(), GetParam() == Durability::kWal) << "it is to survive loss of power";
  EXPECT_FALSE(run.Flush());
  EXPECT_EQ(log_files.failed_call(), "SyncData");
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(run.ApplyNext()) << "nothing can record it";
  run.ExpectSame();
  log_files.set_fault(Fault());
  run.plan().Set(std::nullopt);
  EXPECT_TRUE(run.ApplyNext());
  EXPECT_TRUE(run.Work());
  run.ExpectSame();
  run.CloseWithoutRedo();
  run.ExpectAllThere();
}

TEST_P(StoreFaultTest, CallLargerThanTheCacheOutlivesTheRedoLog) {
  for (int at = 0;; at += 1 + at / 4) {
    SCOPED_TRACE(StrCat("call ", at, " of the log fails"));
    TestLogFileSystem log_files;
    FaultyRun run(GetParam(), CallsLargerThanTheCache());
    ASSERT_OK(run.Open(&log_files));
    EXPECT_TRUE(run.ApplyNext());
    log_files.set_fault(Fault{at, EIO, false, true, /*drops_pages=*/true});
    run.ApplyNext();
    const bool failed = !log_files.failed_call().empty();
    log_files.set_fault(Fault());
    EXPECT_TRUE(run.Work());
    run.ExpectSame();
    run.ExpectAllThere();
    if (!failed || testing::Test::HasFailure()) return;
  }
}

TEST_P(StoreFaultTest, WorkGoesOnWhenTheStorageHasRoomAgain) {
  FaultyRun run(GetParam());
  ASSERT_OK(run.Open());
  EXPECT_TRUE(run.ApplyNext());
  run.plan().Set(FaultPlan::Fault{FileOperation::kCreate, 0, true, FaultKind::kNoSpace});
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(run.Work()) << "its flushes fail";
  run.ExpectSame();
  run.plan().Set(std::nullopt);
  EXPECT_TRUE(run.Work());
  EXPECT_TRUE(run.ApplyNext());
  run.ExpectSame();
  run.CloseWithoutRedo();
  run.ExpectAllThere();
}

TEST_P(StoreFaultTest, CallsLargerThanTheCacheGoOnOnceTheDiskHasRoom) {
  int num_unfinished = 0;
  for (const FileOperation operation : {FileOperation::kCreate, FileOperation::kWrite}) {
    for (int at = 0;; at += 1 + at / 2) {
      SCOPED_TRACE(StrCat("operation ", static_cast<int>(operation), ", number ", at, " fails"));
      FaultyRun run(GetParam(), CallsLargerThanTheCache());
      ASSERT_OK(run.Open());
      EXPECT_TRUE(run.ApplyNext());
      run.plan().Set(FaultPlan::Fault{operation, at, at % 2 == 1, FaultKind::kNoSpace});
      run.Work();
      num_unfinished += run.num_unfinished();
      const bool failed = run.plan().num_failed() > 0;
      run.plan().Set(std::nullopt);
      EXPECT_TRUE(run.Work());
      run.ExpectSame();
      run.ExpectAllThere();
      if (!failed) break;
      if (testing::Test::HasFailure()) return;
    }
  }
  EXPECT_GT(num_unfinished, 0);
}

}  // namespace
}  // namespace damo
