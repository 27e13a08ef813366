// SPDX-License-Identifier: Apache-2.0
//
// Logs that go on where an earlier process, or an earlier boot of the machine, left them.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/redo/redo_format.h"
#include "damo/redo/redo_log.h"
#include "damo/redo/test_log_file_system.h"
#include "damo/redo/test_redo_log.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kSegmentBytes = 100;  // two records or so

std::vector<uint64_t> Segments(const std::string& directory) {
  auto segments = ListSegments(directory);
  EXPECT_TRUE(segments.ok()) << segments.status().ToString();
  return *segments;
}

uint64_t BytesOnDisk(const std::string& directory) {
  uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(directory)) bytes += entry.file_size();
  return bytes;
}

StatusOr<std::unique_ptr<RedoLog>> Open(const std::string& directory, uint64_t first_lsn,
                                        LogFileSystem* file_system = nullptr) {
  RedoLog::Options options;
  options.directory = directory;
  options.first_lsn = first_lsn;
  options.segment_bytes = kSegmentBytes;
  options.file_system = file_system;
  return OpenRedoLog(options);
}

void AppendMore(RedoLog* log, int count, Records* records) {
  for (int i = 0; i < count; ++i) {
    const std::string record = StrCat("record ", log->next_lsn(), std::string(log->next_lsn() % 11, '.'));
    const auto lsn = AppendRecord(log, record);
    ASSERT_OK(lsn.status());
    (*records)[*lsn] = record;
  }
}

Records From(const Records& records, uint64_t lsn) {
  return Records(records.lower_bound(lsn), records.end());
}

Records Before(const Records& records, uint64_t lsn) {
  return Records(records.begin(), records.lower_bound(lsn));
}

// What a process that died has left.
Records LeaveLog(const std::string& directory, int count, LogFileSystem* file_system = nullptr) {
  Records records;
  auto log = Open(directory, 0, file_system);
  EXPECT_TRUE(IsOk(log.status()));
  AppendMore(log->get(), count, &records);
  return records;
}

// By file name.
std::map<std::string, std::string> Files(const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    files[entry.path().filename().string()] = ReadFile(entry.path().string());
  }
  return files;
}

TEST(RedoAdoptionTest, GoesOnInANewSegmentAndLeavesTheOldOnesAsTheyAre) {
  const TestDirectory directory;
  Records records = LeaveLog(directory.path(), 5);
  const auto left = Files(directory.path());
  const auto log = Open(directory.path(), 0);
  ASSERT_OK(log.status());
  EXPECT_EQ((*log)->next_lsn(), 5u);
  EXPECT_EQ((*log)->bytes(), BytesOnDisk(directory.path()));
  AppendMore(log->get(), 3, &records);
  for (const auto& [name, bytes] : left) EXPECT_EQ(Files(directory.path())[name], bytes) << name;
  EXPECT_EQ((*log)->bytes(), BytesOnDisk(directory.path()));
  EXPECT_EQ(ReadRecords(directory.path(), 0), records);
}

TEST(RedoAdoptionTest, TrimDeletesAdoptedSegments) {
  const TestDirectory directory;
  LeaveLog(directory.path(), 5);
  const std::vector<uint64_t> segments = Segments(directory.path());
  ASSERT_EQ(segments, std::vector<uint64_t>({0, 2, 4}));
  const auto log = Open(directory.path(), 3);
  ASSERT_OK(log.status());
  EXPECT_EQ(Segments(directory.path()), segments);
  ASSERT_OK((*log)->Trim(2));
  EXPECT_EQ(Segments(directory.path()), std::vector<uint64_t>({2, 4}));
  EXPECT_EQ((*log)->bytes(), BytesOnDisk(directory.path()));
  ASSERT_OK((*log)->Trim(5));
  EXPECT_EQ(Segments(directory.path()), std::vector<uint64_t>());
  EXPECT_EQ((*log)->bytes(), 0u);
}

TEST(RedoAdoptionTest, TrimWhileTheOldRecordsAreReplayed) {
  const TestDirectory directory;
  const Records left = LeaveLog(directory.path(), 9);
  const auto log = Open(directory.path(), 0);
  ASSERT_OK(log.status());
  Records replayed;
  const auto replay = [&](uint64_t lsn, std::string_view record) {
    replayed[lsn] = std::string(record);
    DAMO_RETURN_IF_ERROR((*log)->Sync((*log)->next_lsn()));
    return (*log)->Trim(lsn);
  };
  const auto end = ReadRedoLog(directory.path(), 0, replay);
  ASSERT_OK(end.status());
  EXPECT_EQ(*end, 9u);
  EXPECT_EQ(replayed, left);
  EXPECT_EQ(Segments(directory.path()), std::vector<uint64_t>({8}));
}

TEST(RedoAdoptionTest, SyncMakesAdoptedRecordsAndTheirNamesDurable) {
  const TestDirectory directory;
  TestLogFileSystem file_system;
  const Records records = LeaveLog(directory.path(), 5, &file_system);
  const auto log = Open(directory.path(), 0, &file_system);
  ASSERT_OK(log.status());
  const TestDirectory before;
  file_system.CopyDurable(before.path());
  EXPECT_EQ(ReadRecords(before.path(), 0), Records());
  ASSERT_OK((*log)->Sync(5));
  const TestDirectory after;
  file_system.CopyDurable(after.path());
  EXPECT_EQ(ReadRecords(after.path(), 0), records);
}

TEST(RedoAdoptionTest, HalfWrittenRecordIsCutOff) {
  const TestDirectory directory;
  Records records = LeaveLog(directory.path(), 5);
  const std::string path = SegmentPath(directory.path(), 4);
  const std::string whole = ReadFile(path);
  WriteFile(path, whole + "half a frame");
  const auto log = Open(directory.path(), 0);
  ASSERT_OK(log.status());
  EXPECT_EQ(ReadFile(path), whole);
  EXPECT_EQ((*log)->bytes(), BytesOnDisk(directory.path()));
  AppendMore(log->get(), 2, &records);
  EXPECT_EQ(ReadRecords(directory.path(), 0), records);
  // As if loss of power had taken the cut back.
  WriteFile(path, whole + "half a frame");
  EXPECT_EQ(ReadRecords(directory.path(), 0), records);
}

TEST(RedoAdoptionTest, SegmentWithoutARecordIsDeleted) {
  const TestDirectory directory;
  Records records = LeaveLog(directory.path(), 4);
  WriteFile(SegmentPath(directory.path(), 4), "DAMO");
  const auto log = Open(directory.path(), 0);
  ASSERT_OK(log.status());
  EXPECT_EQ(Segments(directory.path()), std::vector<uint64_t>({0, 2}));
  AppendMore(log->get(), 1, &records);
  EXPECT_EQ(ReadRecords(directory.path(), 0), records);
}

TEST(RedoAdoptionTest, LogThatEndsBeforeTheFirstLsnGoesOnThere) {
  const TestDirectory directory;
  LeaveLog(directory.path(), 4);
  Records records;
  const auto log = Open(directory.path(), 10);
  ASSERT_OK(log.status());
  EXPECT_EQ((*log)->next_lsn(), 10u);
  AppendMore(log->get(), 1, &records);
  EXPECT_EQ(ReadRecords(directory.path(), 10), records);
  ASSERT_OK((*log)->Trim(10));
  EXPECT_EQ(Segments(directory.path()), std::vector<uint64_t>({10}));
}

TEST(RedoAdoptionTest, DamagedLogIsRefusedAndLeftAsItIs) {
  const TestDirectory directory;
  LeaveLog(directory.path(), 7);
  const std::string path = SegmentPath(directory.path(), 2);
  std::string bytes = ReadFile(path);
  bytes[kSegmentHeaderBytes + 3] ^= 1;
  WriteFile(path, bytes);
  const auto left = Files(directory.path());
  EXPECT_TRUE(FailsWith(Open(directory.path(), 0).status(), StatusCode::kDataLoss, path));
  EXPECT_EQ(Files(directory.path()), left);
}

// ---- another boot ----

class OtherBootTest : public testing::Test {
 protected:
  OtherBootTest() { file_system_.set_boot_id("first"); }

  // A log of seven records in segments 0, 2, 4 and 6, the first `synced` of which were synced one by one.
  void MakeLog(int synced) {
    auto log = Open(directory_.path(), 0, &file_system_);
    ASSERT_OK(log.status());
    for (int i = 0; i < 7; ++i) {
      AppendMore(log->get(), 1, &records_);
      if (i < synced) {
        ASSERT_OK((*log)->Sync((*log)->next_lsn()));
      }
    }
    ASSERT_EQ(Segments(directory_.path()), std::vector<uint64_t>({0, 2, 4, 6}));
  }

  void Damage(uint64_t first_lsn, size_t offset) const {
    const std::string path = SegmentPath(directory_.path(), first_lsn);
    std::string bytes = ReadFile(path);
    bytes[offset] ^= 1;
    WriteFile(path, bytes);
  }

  Status ReadStatus() {
    Records records;
    return ReadInto(&records, directory_.path(), 0, &file_system_).status();
  }

  // The log is of `count` records, and goes on without those behind them, also after one more restart.
  void ExpectEndsAfter(uint64_t count) {
    EXPECT_EQ(ReadRecords(directory_.path(), 0, &file_system_), Before(records_, count));
    Records records = Before(records_, count);
    {
      const auto log = Open(directory_.path(), 0, &file_system_);
      ASSERT_OK(log.status());
      EXPECT_EQ((*log)->next_lsn(), count);
      EXPECT_EQ((*log)->bytes(), BytesOnDisk(directory_.path()));
      EXPECT_EQ(ReadRecords(directory_.path(), 0, &file_system_), records);
      AppendMore(log->get(), 3, &records);
    }
    EXPECT_EQ(ReadRecords(directory_.path(), 0, &file_system_), records);
    file_system_.set_boot_id("third");
    EXPECT_EQ(ReadRecords(directory_.path(), 0, &file_system_), records);
  }

  const TestDirectory directory_;
  TestLogFileSystem file_system_;
  Records records_;
};

TEST_F(OtherBootTest, BadRecordThatWasNotSyncedIsTheEnd) {
  MakeLog(0);
  Damage(2, kSegmentHeaderBytes + 3);
  EXPECT_TRUE(FailsWith(ReadStatus(), StatusCode::kDataLoss, ", and a good frame follows"));
  file_system_.set_boot_id("second");
  ExpectEndsAfter(2);
}

TEST_F(OtherBootTest, RecordsThatAreGivenUpAreToldOfOnce) {
  MakeLog(0);
  Damage(2, kSegmentHeaderBytes + 3);
  file_system_.set_boot_id("second");
  const auto warnings_of_opening = [this] {
    testing::internal::CaptureStderr();
    EXPECT_TRUE(IsOk(Open(directory_.path(), 0, &file_system_).status()));
    return testing::internal::GetCapturedStderr();
  };
  uint64_t num_bytes = 0;
  for (const uint64_t first_lsn : {2, 4, 6}) {
    num_bytes += ReadFile(SegmentPath(directory_.path(), first_lsn)).size() - kSegmentHeaderBytes;
  }
  num_bytes -= kFrameHeaderBytes + records_[2].size() + FramePadding(records_[2].size());
  EXPECT_EQ(
      warnings_of_opening(),
      StrCat("damo_tf: warning: redo log '", directory_.path(),
             "': the machine has restarted since it was written, and record 2 did not reach the disk "
             "(redo segment '",
             SegmentPath(directory_.path(), 2), "', offset 24: the frame header is bad): this and what ",
             "follows it, ", num_bytes, " bytes in 3 segments, are lost. Apply calls that are lost so had ",
             "been acknowledged, but not synced: only durability \"sync\" survives loss of power ",
             "(docs/redo_format.md)\n"));
  EXPECT_EQ(warnings_of_opening(), "");
}

TEST_F(OtherBootTest, TailThatWasBeingWrittenIsNotToldOf) {
  MakeLog(0);
  Damage(6, kSegmentHeaderBytes + 3);
  file_system_.set_boot_id("second");
  testing::internal::CaptureStderr();
  EXPECT_TRUE(IsOk(Open(directory_.path(), 0, &file_system_).status()));
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(OtherBootTest, BadSegmentHeaderOfRecordsThatWereNotSyncedIsTheEnd) {
  MakeLog(4);
  Damage(4, 0);
  EXPECT_TRUE(FailsWith(ReadStatus(), StatusCode::kDataLoss, ", and a good frame follows"));
  file_system_.set_boot_id("second");
  ExpectEndsAfter(4);
}

TEST_F(OtherBootTest, MissingSegmentThatWasNotSyncedIsTheEnd) {
  MakeLog(0);
  fs::remove(SegmentPath(directory_.path(), 2));
  EXPECT_TRUE(FailsWith(ReadStatus(), StatusCode::kDataLoss, "the one before it ends at 2"));
  file_system_.set_boot_id("second");
  ExpectEndsAfter(2);
}

TEST_F(OtherBootTest, MissingFirstSegmentThatWasNotSyncedIsTheEnd) {
  MakeLog(0);
  fs::remove(SegmentPath(directory_.path(), 0));
  EXPECT_TRUE(FailsWith(ReadStatus(), StatusCode::kDataLoss, "the log begins at LSN 2"));
  file_system_.set_boot_id("second");
  ExpectEndsAfter(0);
}

TEST_F(OtherBootTest, BadRecordThatWasSyncedIsDataLoss) {
  MakeLog(7);
  file_system_.set_boot_id("second");
  for (const uint64_t first_lsn : {0, 2, 4}) {
    for (const size_t offset : {size_t{0}, kSegmentHeaderBytes, kSegmentHeaderBytes + kFrameHeaderBytes}) {
      SCOPED_TRACE(StrCat("segment ", first_lsn, ", offset ", offset));
      Damage(first_lsn, offset);
      EXPECT_TRUE(FailsWith(ReadStatus(), StatusCode::kDataLoss,
                            StrCat("but record ", first_lsn, " had been synced")));
      EXPECT_TRUE(FailsWith(Open(directory_.path(), 0, &file_system_).status(), StatusCode::kDataLoss,
                            SegmentPath(directory_.path(), first_lsn)));
      if (HasFailure()) return;   // the segment may be gone
      Damage(first_lsn, offset);  // back again
      ASSERT_OK(ReadStatus());
    }
  }
}

TEST_F(OtherBootTest, MissingSegmentThatWasSyncedIsDataLoss) {
  MakeLog(4);
  fs::remove(SegmentPath(directory_.path(), 2));
  file_system_.set_boot_id("second");
  EXPECT_TRUE(FailsWith(ReadStatus(), StatusCode::kDataLoss, "but record 2 had been synced when"));
}

TEST_F(OtherBootTest, BadRecordThatIsInTheRowsIsDataLoss) {
  MakeLog(0);
  Damage(2, kSegmentHeaderBytes + 3);
  file_system_.set_boot_id("second");
  Records records;
  EXPECT_TRUE(FailsWith(ReadInto(&records, directory_.path(), 3, &file_system_).status(),
                        StatusCode::kDataLoss, ", and a good frame follows"));
}

TEST_F(OtherBootTest, NothingIsGivenUpWhereTheBootIsUnknown) {
  MakeLog(0);
  Damage(2, kSegmentHeaderBytes + 3);
  file_system_.set_boot_id("");
  EXPECT_TRUE(FailsWith(ReadStatus(), StatusCode::kDataLoss, ", and a good frame follows"));
}

TEST_F(OtherBootTest, OnlyTheMarkOfTheLastBootStands) {
  for (const char* const boot : {"first", "second", "second", "third"}) {
    file_system_.set_boot_id(boot);
    ASSERT_OK(Open(directory_.path(), 0, &file_system_).status());
    EXPECT_EQ(Files(directory_.path()), (std::map<std::string, std::string>{{StrCat(boot, ".boot"), ""}}));
  }
}

// ---- failing calls, death and loss of power ----

// A store's use of its log over many lives.
class Machine {
 public:
  explicit Machine(uint32_t seed) : random_(seed) { Boot(); }

  // One life of a process, with a call that fails. Returns whether it came to that call.
  bool Live(const Fault& fault) {
    file_system_->set_fault(fault);
    auto log = Open(path(), first_lsn_, file_system_.get());
    if (log.ok()) Use(log->get());
    const bool failed = !file_system_->failed_call().empty();
    file_system_->set_fault(Fault());
    return failed;
  }

  // After the death of a process everything is there that was acknowledged.
  void ExpectAllKept() const {
    EXPECT_EQ(ReadRecords(path(), first_lsn_, file_system_.get()), From(records_, first_lsn_));
  }

  // After loss of power what was synced is, and maybe more of the same.
  void LosePower() {
    auto left = std::move(directory_);
    const auto old = std::move(file_system_);
    Boot();
    old->CopyAfterPowerLoss(path(), &random_);
    file_system_->AddDurable(path());
    const Records kept = ReadRecords(path(), first_lsn_, file_system_.get());
    EXPECT_GE(first_lsn_ + kept.size(), durable_lsn_);
    EXPECT_EQ(kept, Before(From(records_, first_lsn_), first_lsn_ + kept.size()));
    records_ = Before(records_, first_lsn_ + kept.size());
  }

  std::mt19937& random() { return random_; }

 private:
  void Boot() {
    directory_ = std::make_unique<TestDirectory>();
    file_system_ = std::make_unique<TestLogFileSystem>();
    file_system_->set_boot_id(StrCat("boot ", ++num_boots_));
  }
  const std::string& path() const { return directory_->path(); }

  void Use(RedoLog* log) {
    const uint64_t first = std::max(first_lsn_, records_.empty() ? 0 : records_.rbegin()->first + 1);
    EXPECT_EQ(log->next_lsn(), first);
    for (int i = 0; i < 8; ++i) {
      const std::string record = StrCat(num_boots_, "/", ++num_records_, std::string(random_() % 150, 'x'));
      const auto lsn = AppendRecord(log, record);
      if (lsn.ok()) records_[*lsn] = record;
      if (random_() % 4 == 0 && log->Sync(log->next_lsn()).ok()) durable_lsn_ = log->next_lsn();
      if (random_() % 8 == 0) Flush(log);
    }
  }

  void Flush(RedoLog* log) {
    if (!log->Sync(log->next_lsn()).ok()) return;
    durable_lsn_ = log->next_lsn();
    first_lsn_ += random_() % (durable_lsn_ - first_lsn_ + 1);
    log->Trim(first_lsn_).IgnoreError();  // deletes or not; either is right
  }

  std::mt19937 random_;
  std::unique_ptr<TestDirectory> directory_;
  std::unique_ptr<TestLogFileSystem> file_system_;
  int num_boots_ = 0;
  int num_records_ = 0;
  Records records_;           // acknowledged, and not lost
  uint64_t first_lsn_ = 0;    // what the manifest would say
  uint64_t durable_lsn_ = 0;  // synced with success
};

Fault AnyFault(std::mt19937* random) {
  Fault fault;
  fault.at = static_cast<int>((*random)() % 50) - 10;
  fault.error = ENOSPC;
  fault.lasts = (*random)() % 2 == 0;
  fault.half_writes = (*random)() % 2 == 0;
  return fault;
}

TEST(RedoPowerLossTest, WhatWasSyncedIsReadBackAndWhatWasLostStaysLost) {
  for (uint32_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(StrCat("seed ", seed));
    Machine machine(seed);
    for (int boot = 0; boot < 4; ++boot) {
      const uint32_t lives = 1 + machine.random()() % 3;
      for (uint32_t life = 0; life < lives; ++life) {
        machine.Live(AnyFault(&machine.random()));
        machine.ExpectAllKept();
      }
      machine.LosePower();
      if (testing::Test::HasFailure()) return;
    }
  }
}

// Fails call n of the opening that comes after `calamity`, for every n, and opens again.
template <typename Calamity>
void FailEveryCallOfRecovery(uint32_t seed, const Calamity& calamity) {
  for (Fault fault{0, ENOSPC, true, true};; ++fault.at) {
    SCOPED_TRACE(StrCat("seed ", seed, ", call ", fault.at, " fails"));
    Machine machine(seed);
    machine.Live(Fault());
    calamity(&machine);
    const bool failed = machine.Live(fault);
    machine.ExpectAllKept();
    if (seed % 2 == 0) machine.LosePower();
    machine.Live(Fault());
    machine.ExpectAllKept();
    machine.LosePower();
    if (testing::Test::HasFailure() || !failed) return;
  }
}

TEST(RedoPowerLossTest, RecoveryMayBeCutShortAtEveryCallAfterDeath) {
  for (uint32_t seed = 0; seed < 4; ++seed) {
    FailEveryCallOfRecovery(seed, [](Machine* machine) {
      machine->Live(Fault{9, ENOSPC, true, true});  // leaves a record half written
    });
  }
}

TEST(RedoPowerLossTest, RecoveryMayBeCutShortAtEveryCallAfterLossOfPower) {
  for (uint32_t seed = 0; seed < 6; ++seed) {
    FailEveryCallOfRecovery(seed, [](Machine* machine) { machine->LosePower(); });
  }
}

}  // namespace
}  // namespace damo
