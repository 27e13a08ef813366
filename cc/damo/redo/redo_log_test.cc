// SPDX-License-Identifier: Apache-2.0
#include "damo/redo/redo_log.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <new>
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

TEST(RedoLogFaultTest, FailedSyncIsFinal) {
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

// The first SyncData() stays inside until it is let go.
class GatedLogFileSystem final : public ForwardingLogFileSystem {
 public:
  int SyncData(int fd) override {
    {
      std::unique_lock lock(mutex_);
      ++syncs_;
      changed_.notify_all();
      changed_.wait(lock, [&] { return open_; });
    }
    return ForwardingLogFileSystem::SyncData(fd);
  }
  void WaitForFirstSync() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return syncs_ == 1; });
  }
  void OpenGate() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  int syncs() {
    std::lock_guard lock(mutex_);
    return syncs_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int syncs_ = 0;
  bool open_ = false;
};

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
