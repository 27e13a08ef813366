// SPDX-License-Identifier: Apache-2.0
#include "damo/redo/redo_log.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <mutex>
#include <new>
#include <random>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/redo/redo_format.h"
#include "damo/redo/test_log_file_system.h"
#include "damo/redo/test_redo_log.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

// First LSNs of the segments that stand.
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

RedoLog::Options OptionsWith(LogFileSystem* file_system, const std::string& directory,
                             uint64_t segment_bytes) {
  RedoLog::Options options;
  options.directory = directory;
  options.segment_bytes = segment_bytes;
  options.file_system = file_system;
  return options;
}

TEST(RedoLogTest, RecordsOfEveryLengthAreReadBack) {
  const TestDirectory directory;
  Records expected;
  auto log = MustOpenRedoLog(directory.path(), 100, 500);
  for (size_t size = 0; size < 70; ++size) {
    const std::string record(size, static_cast<char>('0' + size));
    const auto lsn = AppendRecord(log.get(), record);
    ASSERT_OK(lsn.status());
    ASSERT_EQ(*lsn, 100 + size);
    ASSERT_EQ(log->next_lsn(), *lsn + 1);
    expected[*lsn] = record;
  }
  EXPECT_GT(Segments(directory.path()).size(), 3u);
  EXPECT_EQ(ReadRecords(directory.path(), 100), expected);
}

TEST(RedoLogTest, RecordIsTheConcatenationOfItsPieces) {
  const TestDirectory directory;
  auto log = MustOpenRedoLog(directory.path(), 0);
  std::vector<std::string> texts;
  for (int i = 0; i < 5000; ++i) texts.push_back(std::string(i % 4, 'a') + std::to_string(i));  // > IOV_MAX
  texts[17].clear();
  std::string whole;
  std::vector<std::string_view> pieces;
  for (const std::string& text : texts) {
    whole += text;
    pieces.emplace_back(text);
  }
  ASSERT_OK(log->Append(pieces).status());
  ASSERT_OK(log->Append({}).status());
  EXPECT_EQ(ReadRecords(directory.path(), 0), Records({{0, whole}, {1, ""}}));
}

TEST(RedoLogTest, MakesItsDirectoryButNoSegmentBeforeThereIsARecord) {
  const TestDirectory directory;
  auto log = MustOpenRedoLog(directory / "redo/", 5);
  EXPECT_EQ(Segments(directory / "redo"), std::vector<uint64_t>());
  EXPECT_EQ(log->next_lsn(), 5u);
  EXPECT_EQ(log->bytes(), 0u);
  ASSERT_OK(log->Sync(5));
  ASSERT_OK(log->Trim(5));
}

TEST(RedoLogTest, IsNotStartedInADirectoryThatCannotBeMade) {
  const TestDirectory directory;
  EXPECT_TRUE(FailsWith(OpenRedoLog(OptionsWith(nullptr, directory / "a/b", 0)).status(),
                        StatusCode::kIoError, "create directory '"));
}

TEST(RedoLogTest, FilesOfOthersAreLeftAlone) {
  const TestDirectory directory;
  WriteFile(directory / "notes.txt", "mine");
  auto log = MustOpenRedoLog(directory.path(), 0);
  ASSERT_OK(AppendRecord(log.get(), "record").status());
  ASSERT_OK(log->Trim(1));
  EXPECT_EQ(ReadFile(directory / "notes.txt"), "mine");
}

TEST(RedoLogTest, BytesAreThoseOfTheFiles) {
  const TestDirectory directory;
  auto log = MustOpenRedoLog(directory.path(), 0, 200);
  for (int i = 0; i < 10; ++i) {
    ASSERT_OK(AppendRecord(log.get(), std::string(30, 'x')).status());
    ASSERT_EQ(log->bytes(), BytesOnDisk(directory.path()));
  }
  ASSERT_OK(log->Trim(7));
  EXPECT_EQ(log->bytes(), BytesOnDisk(directory.path()));
  ASSERT_OK(log->Trim(10));
  EXPECT_EQ(log->bytes(), 0u);
}

TEST(RedoLogTest, TrimDeletesTheSegmentsThatAreCoveredWhole) {
  const TestDirectory directory;
  auto log = MustOpenRedoLog(directory.path(), 0, 72);  // two records of 40 bytes each
  for (int i = 0; i < 6; ++i) ASSERT_OK(AppendRecord(log.get(), "record").status());
  ASSERT_EQ(Segments(directory.path()), std::vector<uint64_t>({0, 2, 4}));
  const std::vector<std::pair<uint64_t, std::vector<uint64_t>>> steps = {
      {0, {0, 2, 4}}, {1, {0, 2, 4}}, {2, {2, 4}}, {3, {2, 4}}, {5, {4}}, {6, {}}, {2, {}}};
  for (const auto& [lsn, left] : steps) {
    ASSERT_OK(log->Trim(lsn));
    ASSERT_EQ(Segments(directory.path()), left) << "trimmed to " << lsn;
  }
}

TEST(RedoLogTest, GoesOnInANewSegmentAfterAllHasBeenTrimmed) {
  const TestDirectory directory;
  auto log = MustOpenRedoLog(directory.path(), 0);
  ASSERT_OK(AppendRecord(log.get(), "old").status());
  ASSERT_OK(log->Trim(1));
  ASSERT_OK(AppendRecord(log.get(), "new").status());
  EXPECT_EQ(Segments(directory.path()), std::vector<uint64_t>({1}));
  EXPECT_EQ(ReadRecords(directory.path(), 1), Records({{1, "new"}}));
}

TEST(RedoLogTest, LsnThatHasNotBeenGivenIsRefused) {
  const TestDirectory directory;
  auto log = MustOpenRedoLog(directory.path(), 5);
  EXPECT_TRUE(FailsWith(log->Sync(6), StatusCode::kInvalidArgument, "before LSN 6: its next record is 5"));
  EXPECT_TRUE(FailsWith(log->Trim(6), StatusCode::kInvalidArgument, "before LSN 6: its next record is 5"));
}

// Looks at what it makes.
class DescriptorWatch final : public ForwardingLogFileSystem {
 public:
  int Create(const std::string& path) override {
    const int fd = ForwardingLogFileSystem::Create(path);
    EXPECT_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    ++open_;
    return fd;
  }
  int Open(const std::string& path) override {
    const int fd = ForwardingLogFileSystem::Open(path);
    EXPECT_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    ++open_;
    return fd;
  }
  int Close(int fd) override {
    --open_;
    return ForwardingLogFileSystem::Close(fd);
  }
  int open() const { return open_; }

 private:
  int open_ = 0;
};

TEST(RedoLogTest, DescriptorsAreClosedWithTheirSegmentsAndAtTheEnd) {
  const TestDirectory directory;
  DescriptorWatch watch;
  auto log = MustOpenRedoLog(OptionsWith(&watch, directory.path(), 0));
  for (int i = 0; i < 5; ++i) ASSERT_OK(AppendRecord(log.get(), "record").status());
  ASSERT_OK(log->Trim(2));
  EXPECT_EQ(watch.open(), 3);
  log.reset();
  EXPECT_EQ(watch.open(), 0);
  EXPECT_EQ(Segments(directory.path()), std::vector<uint64_t>({2, 3, 4}));
}

// ---- failing calls ----

TEST(RedoLogFaultTest, FullDiskFailsTheCallAndTheLogGoesOn) {
  const TestDirectory directory;
  Fault fault;
  fault.at = 5;  // directory, its name, boot mark, segment, header, record
  fault.error = ENOSPC;
  TestLogFileSystem file_system(fault);
  auto log = MustOpenRedoLog(OptionsWith(&file_system, directory.path(), 1000));
  EXPECT_TRUE(
      FailsWith(AppendRecord(log.get(), "lost").status(), StatusCode::kIoError, "No space left on device"));
  EXPECT_EQ(log->bytes(), 0u);
  EXPECT_EQ(Segments(directory.path()), std::vector<uint64_t>());
  const auto lsn = AppendRecord(log.get(), "kept");
  ASSERT_OK(lsn.status());
  EXPECT_EQ(*lsn, 0u);
  EXPECT_EQ(ReadRecords(directory.path(), 0), Records({{0, "kept"}}));
}

TEST(RedoLogFaultTest, FailedSyncEndsTheLog) {
  const TestDirectory directory;
  Fault fault;
  fault.at = 6;
  TestLogFileSystem file_system(fault);
  auto log = MustOpenRedoLog(OptionsWith(&file_system, directory.path(), 1000));
  ASSERT_OK(AppendRecord(log.get(), "record").status());
  EXPECT_TRUE(FailsWith(log->Sync(1), StatusCode::kIoError, "takes no more records: sync redo segment"));
  ASSERT_EQ(file_system.failed_call(), "SyncData");
  EXPECT_TRUE(FailsWith(log->Sync(0), StatusCode::kIoError, "takes no more records: sync redo segment"));
  EXPECT_TRUE(
      FailsWith(AppendRecord(log.get(), "next").status(), StatusCode::kIoError, "takes no more records"));
  EXPECT_TRUE(FailsWith(log->failure(), StatusCode::kIoError, "takes no more records: sync redo segment"));
  ASSERT_OK(log->Trim(1));
  EXPECT_EQ(Segments(directory.path()), std::vector<uint64_t>());
}

TEST(RedoLogFaultTest, RecordThatCannotBeTakenBackEndsTheLog) {
  const TestDirectory directory;
  Fault fault;
  fault.at = 6;
  fault.error = ENOSPC;
  fault.lasts = true;
  TestLogFileSystem file_system(fault);
  auto log = MustOpenRedoLog(OptionsWith(&file_system, directory.path(), 1000));
  ASSERT_OK(AppendRecord(log.get(), "kept").status());
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(FailsWith(AppendRecord(log.get(), "lost").status(), StatusCode::kIoError,
                          "takes no more records: truncate redo segment"));
  }
  EXPECT_TRUE(FailsWith(log->Sync(0), StatusCode::kIoError, "takes no more records: truncate redo segment"));
  EXPECT_EQ(ReadRecords(directory.path(), 0), Records({{0, "kept"}}));
}

// ---- renewal ----

// Renews a log whose rows are in memory, as a flush does: `committed` is what the manifest has.
Status Renew(RedoLog* log, const std::vector<std::string_view>& records, uint64_t* committed) {
  return log->Renew(records, [committed](uint64_t first_lsn) {
    *committed = first_lsn;
    return Status();
  });
}

// A log of six records in three segments, two of them synced, whose next sync has failed.
class FailedLogTest : public testing::Test {
 protected:
  void MakeFailedLog() {
    log_ = MustOpenRedoLog(OptionsWith(&file_system_, directory_.path(), 100));
    for (int i = 0; i < 6; ++i) {
      ASSERT_OK(AppendRecord(log_.get(), "a record").status());
      if (i == 1) {
        ASSERT_OK(log_->Sync(2));
      }
    }
    ASSERT_EQ(Segments(directory_.path()), std::vector<uint64_t>({0, 2, 4}));
    Fault fault;
    fault.at = 1;  // the last segment is synced after the one before it
    fault.drops_pages = true;
    file_system_.set_fault(fault);
    ASSERT_FALSE(log_->Sync(6).ok());
    ASSERT_EQ(file_system_.failed_call(), "SyncData");
    file_system_.set_fault(Fault());
  }

  const TestDirectory directory_;
  TestLogFileSystem file_system_;
  std::unique_ptr<RedoLog> log_;
  uint64_t committed_ = 0;
};

TEST_F(FailedLogTest, GoesOnAfterRenewal) {
  MakeFailedLog();
  ASSERT_OK(Renew(log_.get(), {}, &committed_));
  EXPECT_EQ(committed_, 6u);
  EXPECT_TRUE(IsOk(log_->failure()));
  EXPECT_EQ(Segments(directory_.path()), std::vector<uint64_t>());
  EXPECT_EQ(log_->bytes(), 0u);
  EXPECT_TRUE(IsOk(log_->Sync(6)));
  const auto lsn = AppendRecord(log_.get(), "new");
  ASSERT_OK(lsn.status());
  EXPECT_EQ(*lsn, 6u);
  EXPECT_TRUE(IsOk(log_->Sync(7)));
  EXPECT_EQ(ReadRecords(directory_.path(), committed_), Records({{6, "new"}}));
}

TEST_F(FailedLogTest, KeepsTheRecordsThatAreNeededStill) {
  MakeFailedLog();
  ASSERT_OK(Renew(log_.get(), {"half done", "of another group"}, &committed_));
  EXPECT_EQ(log_->next_lsn(), 8u);
  EXPECT_EQ(log_->bytes(), BytesOnDisk(directory_.path()));
  const TestDirectory after_loss_of_power;
  file_system_.CopyDurable(after_loss_of_power.path());
  EXPECT_EQ(ReadRecords(after_loss_of_power.path(), committed_),
            Records({{6, "half done"}, {7, "of another group"}}));
}

TEST_F(FailedLogTest, HasFailedStillIfTheCommitFails) {
  MakeFailedLog();
  const auto full = [](uint64_t) { return IoError("the disk is full"); };
  EXPECT_TRUE(FailsWith(log_->Renew({}, full), StatusCode::kIoError, "the disk is full"));
  EXPECT_TRUE(FailsWith(AppendRecord(log_.get(), "next").status(), StatusCode::kIoError,
                        "takes no more records: sync redo segment"));
  EXPECT_FALSE(log_->Sync(6).ok());
  EXPECT_EQ(Segments(directory_.path()).size(), 3u) << "deleted before anything stands in for it";
  EXPECT_TRUE(IsOk(Renew(log_.get(), {}, &committed_)));
  EXPECT_TRUE(IsOk(AppendRecord(log_.get(), "next").status()));
}

TEST(RedoRenewalTest, WhatCouldNotBeTakenBackIsGone) {
  for (const bool in_a_new_segment : {false, true}) {
    const TestDirectory directory;
    TestLogFileSystem file_system;
    auto log = MustOpenRedoLog(OptionsWith(&file_system, directory.path(), in_a_new_segment ? 1 : 1000));
    ASSERT_OK(AppendRecord(log.get(), "kept").status());
    Fault fault;
    fault.at = in_a_new_segment ? 1 : 0;  // its header
    fault.lasts = true;
    fault.half_writes = true;
    file_system.set_fault(fault);
    EXPECT_FALSE(AppendRecord(log.get(), "lost").ok());
    EXPECT_FALSE(log->failure().ok());
    EXPECT_FALSE(log->Renew({}, [](uint64_t) { return Status(); }).ok());
    file_system.set_fault(Fault());
    uint64_t committed = 0;
    ASSERT_OK(Renew(log.get(), {"open"}, &committed));
    ASSERT_OK(AppendRecord(log.get(), "new").status());
    EXPECT_EQ(ReadRecords(directory.path(), committed), Records({{1, "open"}, {2, "new"}}));
    EXPECT_EQ(log->bytes(), BytesOnDisk(directory.path()));
  }
}

// What stands is of use whatever call of a renewal fails, to the process and to who opens the log after loss
// of power.
TEST_F(FailedLogTest, RenewalMayBeCutShortAtEveryCall) {
  const std::vector<std::string_view> open_records = {"half done"};
  for (Fault fault{0, ENOSPC, true, true};; ++fault.at) {
    SCOPED_TRACE(testing::Message() << "call " << fault.at << " fails, and all later ones");
    const TestDirectory directory;
    TestLogFileSystem file_system;
    auto log = MustOpenRedoLog(OptionsWith(&file_system, directory.path(), 100));
    for (int i = 0; i < 6; ++i) ASSERT_OK(AppendRecord(log.get(), "a record").status());
    file_system.set_fault(Fault{0, EIO, false, false, /*drops_pages=*/true});
    ASSERT_FALSE(log->Sync(6).ok());
    file_system.set_fault(fault);
    uint64_t committed = 0;
    const bool renewed = Renew(log.get(), open_records, &committed).ok();
    for (uint32_t seed = 0; committed > 0 && seed < 20; ++seed) {
      std::mt19937 random(seed);
      const TestDirectory after_loss_of_power;
      file_system.CopyAfterPowerLoss(after_loss_of_power.path(), &random);
      EXPECT_EQ(ReadRecords(after_loss_of_power.path(), committed), Records({{committed, "half done"}}));
    }
    const bool failed = !file_system.failed_call().empty();
    EXPECT_EQ(renewed, !failed);
    file_system.set_fault(Fault());
    if (!renewed) {
      ASSERT_OK(Renew(log.get(), open_records, &committed));
    }
    ASSERT_OK(AppendRecord(log.get(), "next").status());
    EXPECT_EQ(ReadRecords(directory.path(), committed),
              Records({{committed, "half done"}, {committed + 1, "next"}}));
    EXPECT_EQ(log->bytes(), BytesOnDisk(directory.path()));
    if (!failed || HasFailure()) {
      EXPECT_GE(fault.at, 8);
      return;
    }
  }
}

// ---- failing calls of a whole life ----

// A short life of a log under a fault, and what it owes afterwards.
struct Life {
  Records acknowledged;
  uint64_t durable_lsn = 0;  // synced with success
  uint64_t trimmed_lsn = 0;  // may be gone
  bool opened = false;
  bool last_append_ok = false;
};

void Append(RedoLog* log, int i, Life* life) {
  const std::string record = StrCat("record ", i, std::string(static_cast<size_t>(i), '.'));
  const auto lsn = AppendRecord(log, record);
  life->last_append_ok = lsn.ok();
  if (!lsn.ok()) return;
  EXPECT_EQ(*lsn, life->acknowledged.size());
  life->acknowledged[*lsn] = record;
}

Life Live(LogFileSystem* file_system, const std::string& directory) {
  Life life;
  auto log = OpenRedoLog(OptionsWith(file_system, directory, 100));
  life.opened = log.ok();
  if (!life.opened) return life;
  for (int i = 0; i < 12; ++i) {
    Append(log->get(), i, &life);
    if (i % 3 == 2) {
      const uint64_t lsn = (*log)->next_lsn();
      if ((*log)->Sync(lsn).ok()) life.durable_lsn = lsn;
    }
    if (i == 7) {
      life.trimmed_lsn = (*log)->next_lsn() - 2;
      (*log)->Trim(life.trimmed_lsn).IgnoreError();  // deletes or not; either is right
    }
  }
  if (!life.last_append_ok) Append(log->get(), 12, &life);
  return life;
}

Records From(const Records& records, uint64_t lsn) {
  return Records(records.lower_bound(lsn), records.end());
}

// After the process has died, and after the machine has.
void ExpectKept(const Life& life, const TestLogFileSystem& file_system, const std::string& directory) {
  EXPECT_EQ(ReadRecords(directory, life.trimmed_lsn), From(life.acknowledged, life.trimmed_lsn));
  if (life.durable_lsn <= life.trimmed_lsn) return;
  const TestDirectory copy;
  file_system.CopyDurable(copy.path());
  const Records durable = ReadRecords(copy.path(), life.trimmed_lsn);
  EXPECT_GE(life.trimmed_lsn + durable.size(), life.durable_lsn);
  EXPECT_TRUE(
      std::includes(life.acknowledged.begin(), life.acknowledged.end(), durable.begin(), durable.end()));
}

// Whether a log may be expected to take records again after one failure of this call.
bool MayGoOnAfter(const std::string& call) {
  return call == "Create" || call == "WriteV" || call == "Unlink";
}

void FailAtEveryCall(Fault fault) {
  for (fault.at = 0;; ++fault.at) {
    SCOPED_TRACE(testing::Message() << "call " << fault.at << " fails");
    const TestDirectory directory;
    TestLogFileSystem file_system(fault);
    const Life life = Live(&file_system, directory / "redo");
    ExpectKept(life, file_system, directory / "redo");
    const std::string& failed = file_system.failed_call();
    EXPECT_TRUE(life.last_append_ok ||
                (!failed.empty() && (fault.lasts || !life.opened || !MayGoOnAfter(failed))))
        << failed;
    if (testing::Test::HasFailure()) return;
    if (!failed.empty()) continue;
    EXPECT_EQ(life.acknowledged.size(), 12u);
    EXPECT_EQ(life.durable_lsn, 12u);
    EXPECT_GT(fault.at, 30);
    return;
  }
}

TEST(RedoLogFaultTest, WhatWasAcknowledgedIsKeptWhicheverCallFailsOnce) {
  Fault fault;
  fault.error = ENOSPC;
  FailAtEveryCall(fault);
}

TEST(RedoLogFaultTest, WhatWasAcknowledgedIsKeptWhicheverCallIsTheLastToSucceed) {
  Fault fault;
  fault.lasts = true;
  FailAtEveryCall(fault);
}

TEST(RedoLogFaultTest, WhatWasAcknowledgedIsKeptWhicheverWriteIsCutShort) {
  Fault fault;
  fault.error = ENOSPC;
  fault.half_writes = true;
  FailAtEveryCall(fault);
  fault.lasts = true;
  FailAtEveryCall(fault);
}

// Writes a byte or two at a time, and is interrupted every other time.
class StingyLogFileSystem final : public ForwardingLogFileSystem {
 public:
  ssize_t WriteV(int fd, const iovec* parts, int) override {
    if (++calls_ % 2 == 0) {
      errno = EINTR;
      return -1;
    }
    const iovec little = {parts[0].iov_base, std::min<size_t>(parts[0].iov_len, 1 + calls_ % 3 / 2)};
    return ForwardingLogFileSystem::WriteV(fd, &little, 1);
  }
  int SyncData(int fd) override {
    if (++calls_ % 2 == 0) {
      errno = EINTR;
      return -1;
    }
    return ForwardingLogFileSystem::SyncData(fd);
  }

 private:
  int calls_ = 0;
};

TEST(RedoLogFaultTest, ShortAndInterruptedCallsAreContinued) {
  const TestDirectory directory;
  StingyLogFileSystem file_system;
  Life life;
  auto log = MustOpenRedoLog(OptionsWith(&file_system, directory.path(), 100));
  for (int i = 0; i < 12; ++i) {
    Append(log.get(), i, &life);
    ASSERT_OK(log->Sync(log->next_lsn()));
  }
  EXPECT_EQ(life.acknowledged.size(), 12u);
  EXPECT_EQ(ReadRecords(directory.path(), 0), life.acknowledged);
}

// Runs out of memory in its first SyncData().
class ThrowingLogFileSystem final : public ForwardingLogFileSystem {
 public:
  int SyncData(int fd) override {
    if (!thrown_.exchange(true)) throw std::bad_alloc();
    return ForwardingLogFileSystem::SyncData(fd);
  }

 private:
  std::atomic<bool> thrown_{false};
};

TEST(RedoLogFaultTest, ExceptionInASyncKeepsNobodyWaiting) {
  const TestDirectory directory;
  ThrowingLogFileSystem file_system;
  auto log = MustOpenRedoLog(OptionsWith(&file_system, directory.path(), 1000));
  ASSERT_OK(AppendRecord(log.get(), "record").status());
  EXPECT_TRUE(FailsWith(log->Sync(1), StatusCode::kInternal, "bad_alloc"));
  ASSERT_OK(log->Sync(1));
}

// ---- threads ----

TEST(RedoLogThreadTest, AppendDoesNotWaitForASyncAndWaitersShareTheNext) {
  const TestDirectory directory;
  GatedLogFileSystem file_system;
  auto log = MustOpenRedoLog(OptionsWith(&file_system, directory.path(), 100000));
  ASSERT_OK(AppendRecord(log.get(), "first").status());
  std::thread leader([&] { EXPECT_TRUE(IsOk(log->Sync(1))); });
  file_system.WaitForFirstSync();

  for (int i = 0; i < 8; ++i) ASSERT_OK(AppendRecord(log.get(), "while the disk is busy").status());
  std::vector<std::thread> followers;
  for (uint64_t lsn = 2; lsn <= 9; ++lsn) {
    followers.emplace_back([&, lsn] { EXPECT_TRUE(IsOk(log->Sync(lsn))); });
  }
  file_system.OpenGate();
  leader.join();
  for (std::thread& follower : followers) follower.join();

  EXPECT_EQ(file_system.syncs(), 2);
}

// Every fifth sync fails.
class FlakyLogFileSystem final : public ForwardingLogFileSystem {
 public:
  int SyncData(int fd) override {
    if (++num_syncs_ % 5 != 0) return ForwardingLogFileSystem::SyncData(fd);
    errno = EIO;
    return -1;
  }

 private:
  std::atomic<int> num_syncs_{0};
};

TEST(RedoLogThreadTest, RenewalBesideThoseWhoWaitForASync) {
  constexpr int kThreads = 4;
  constexpr int kRecords = 100;
  const TestDirectory directory;
  FlakyLogFileSystem file_system;
  auto log = MustOpenRedoLog(OptionsWith(&file_system, directory.path(), 2000));
  std::shared_mutex moment;  // exclusive: no Append() runs
  uint64_t committed = 0;    // guarded by it
  std::atomic<int> num_renewals{0};
  const auto renew = [&] {
    const std::lock_guard lock(moment);
    if (log->failure().ok()) return;  // someone else was first
    ASSERT_OK(Renew(log.get(), {}, &committed));
    ++num_renewals;
  };
  std::vector<Records> acknowledged(kThreads);
  std::vector<std::thread> writers;
  for (int t = 0; t < kThreads; ++t) {
    writers.emplace_back([&, t] {
      while (acknowledged[t].size() < kRecords) {
        const std::string record = StrCat("thread ", t, " record ", acknowledged[t].size());
        const StatusOr<uint64_t> lsn = [&] {
          const std::shared_lock lock(moment);
          return AppendRecord(log.get(), record);
        }();
        if (lsn.ok()) acknowledged[t][*lsn] = record;
        if (!lsn.ok() || !log->Sync(*lsn + 1).ok()) renew();
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  renew();
  EXPECT_GT(num_renewals, 0);
  Records all;
  for (Records& records : acknowledged) all.merge(records);
  EXPECT_EQ(all.size(), size_t{kThreads} * kRecords);
  EXPECT_EQ(all.rbegin()->first + 1, log->next_lsn());
  EXPECT_EQ(ReadRecords(directory.path(), committed), From(all, committed));
  EXPECT_EQ(log->bytes(), BytesOnDisk(directory.path()));
}

TEST(RedoLogThreadTest, AppendSyncAndTrimFromManyThreads) {
  constexpr int kThreads = 4;
  constexpr int kRecords = 200;
  const TestDirectory directory;
  auto log = MustOpenRedoLog(directory.path(), 0, 2000);
  std::vector<Records> acknowledged(kThreads);
  std::vector<std::thread> writers;
  for (int t = 0; t < kThreads; ++t) {
    writers.emplace_back([&, t] {
      for (int i = 0; i < kRecords; ++i) {
        const std::string record = StrCat("thread ", t, " record ", i, std::string(i % 50, '.'));
        const auto lsn = AppendRecord(log.get(), record);
        ASSERT_OK(lsn.status());
        acknowledged[t][*lsn] = record;
        if (i % 7 == t) {
          ASSERT_OK(log->Sync(*lsn + 1));
        }
      }
    });
  }
  std::atomic<bool> done{false};
  uint64_t trimmed_lsn = 0;
  std::thread trimmer([&] {
    while (!done) {
      trimmed_lsn = log->next_lsn() / 2;
      ASSERT_OK(log->Trim(trimmed_lsn));
    }
  });
  for (std::thread& writer : writers) writer.join();
  done = true;
  trimmer.join();

  Records all;
  for (Records& records : acknowledged) all.merge(records);
  ASSERT_EQ(all.size(), size_t{kThreads} * kRecords);
  EXPECT_EQ(ReadRecords(directory.path(), trimmed_lsn), From(all, trimmed_lsn));
  EXPECT_EQ(log->bytes(), BytesOnDisk(directory.path()));
  ASSERT_OK(log->Trim(log->next_lsn()));
  EXPECT_EQ(Segments(directory.path()), std::vector<uint64_t>());
}

}  // namespace
}  // namespace damo
