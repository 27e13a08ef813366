// SPDX-License-Identifier: Apache-2.0
//
// HistoryLogFiles: the machine's file system, whose changes a redo log makes through a DiskHistory.
#ifndef DAMO_REDO_TEST_HISTORY_LOG_FILES_H_
#define DAMO_REDO_TEST_HISTORY_LOG_FILES_H_

#include <atomic>
#include <cerrno>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "damo/base/test_disk_history.h"
#include "damo/redo/test_log_file_system.h"

namespace damo {

// A machine that never waits for its disk, on a boot of a name of the test's.
class SyncFreeLogFiles : public ForwardingLogFileSystem {
 public:
  explicit SyncFreeLogFiles(std::string boot_id) : boot_id_(std::move(boot_id)) {}
  int SyncData(int /*fd*/) override { return 0; }
  int SyncDirectory(const std::string& /*path*/) override { return 0; }
  std::string BootId() override { return boot_id_; }

 private:
  const std::string boot_id_;
};

class HistoryLogFiles final : public SyncFreeLogFiles {
 public:
  // `history` outlives it.
  HistoryLogFiles(std::string boot_id, DiskHistory* history)
      : SyncFreeLogFiles(std::move(boot_id)), history_(history) {}

  int Create(const std::string& path) override {
    return history_->Change("create", path, [&] {
      const int fd = ForwardingLogFileSystem::Create(path);
      if (fd >= 0) files_[fd] = {path, history_->Created(path)};
      return fd;
    });
  }
  int Open(const std::string& path) override {
    return history_->Undisturbed([&] {
      const int fd = ForwardingLogFileSystem::Open(path);
      if (fd >= 0) files_[fd] = {path, history_->Find(path)};
      return fd;
    });
  }
  // The next sync fails, and loses what it was to bring to the disk.
  void FailNextSync() { sync_fails_ = true; }
  // Whether it has come to that.
  bool sync_has_failed() const { return !sync_fails_; }

  // Every other time only half: the process may die between the halves.
  ssize_t WriteV(int fd, const iovec* parts, int num_parts) override {
    return history_->Change("write", files_.at(fd).first, [&] {
      const bool halve = half_written_.insert(fd).second;
      if (!halve) half_written_.erase(fd);
      if (!halve) return ForwardingLogFileSystem::WriteV(fd, parts, num_parts);
      if (num_parts > 1) return ForwardingLogFileSystem::WriteV(fd, parts, num_parts / 2);
      const iovec half = {parts[0].iov_base, (parts[0].iov_len + 1) / 2};
      return ForwardingLogFileSystem::WriteV(fd, &half, 1);
    });
  }
  int Truncate(int fd, off_t size) override {
    return history_->Change("cut", files_.at(fd).first, [&] {
      DiskHistory::AboutToCut(*files_.at(fd).second, static_cast<uint64_t>(size));
      return ForwardingLogFileSystem::Truncate(fd, size);
    });
  }
  int SyncData(int fd) override {
    return history_->Change("sync", files_.at(fd).first, [&] {
      if (sync_fails_.exchange(false)) {
        DiskHistory::DropPages(*files_.at(fd).second);
        errno = EIO;
        return -1;
      }
      history_->Synced(*files_.at(fd).second);
      return 0;
    });
  }
  int Close(int fd) override {
    return history_->Undisturbed([&] {
      files_.erase(fd);
      half_written_.erase(fd);
      return ForwardingLogFileSystem::Close(fd);
    });
  }
  int Unlink(const std::string& path) override {
    return history_->Change("remove", path, [&] {
      const int result = ForwardingLogFileSystem::Unlink(path);
      if (result == 0) history_->Removed(path);
      return result;
    });
  }
  int SyncDirectory(const std::string& path) override {
    return history_->Change("sync directory", path, [&] {
      history_->DirectorySynced(path);
      return 0;
    });
  }

 private:
  DiskHistory* const history_;
  std::atomic<bool> sync_fails_{false};
  // Guarded by the history's lock.
  std::map<int, std::pair<std::string, DiskHistory::FilePointer>> files_;
  std::set<int> half_written_;
};

}  // namespace damo

#endif  // DAMO_REDO_TEST_HISTORY_LOG_FILES_H_
