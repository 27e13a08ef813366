// SPDX-License-Identifier: Apache-2.0
//
// File systems for tests: TestLogFileSystem makes the n-th call fail and knows what loss of power would
// leave; GatedLogFileSystem has a disk that takes its time.
#ifndef DAMO_REDO_TEST_LOG_FILE_SYSTEM_H_
#define DAMO_REDO_TEST_LOG_FILE_SYSTEM_H_

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <filesystem>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "damo/redo/log_file_system.h"
#include "damo/redo/test_redo_log.h"

namespace damo {

// Does what the machine's does; a base for others.
class ForwardingLogFileSystem : public LogFileSystem {
 public:
  int MakeDirectory(const std::string& path) override { return posix_->MakeDirectory(path); }
  int Create(const std::string& path) override { return posix_->Create(path); }
  int Open(const std::string& path) override { return posix_->Open(path); }
  int OpenToRead(const std::string& path) override { return posix_->OpenToRead(path); }
  ssize_t Read(int fd, void* bytes, size_t size) override { return posix_->Read(fd, bytes, size); }
  ssize_t WriteV(int fd, const iovec* parts, int n) override { return posix_->WriteV(fd, parts, n); }
  int Truncate(int fd, off_t size) override { return posix_->Truncate(fd, size); }
  int SyncData(int fd) override { return posix_->SyncData(fd); }
  int Close(int fd) override { return posix_->Close(fd); }
  int Unlink(const std::string& path) override { return posix_->Unlink(path); }
  int SyncDirectory(const std::string& path) override { return posix_->SyncDirectory(path); }
  std::string BootId() override { return posix_->BootId(); }

 private:
  LogFileSystem* const posix_ = LogFileSystem::Posix();
};

// The first SyncData() stays inside until it is let go.
class GatedLogFileSystem final : public ForwardingLogFileSystem {
 public:
  int SyncData(int fd) override {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      ++syncs_;
      changed_.notify_all();
      changed_.wait(lock, [&] { return open_; });
    }
    return ForwardingLogFileSystem::SyncData(fd);
  }
  void WaitForFirstSync() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return syncs_ == 1; });
  }
  void OpenGate() {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  int syncs() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return syncs_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int syncs_ = 0;
  bool open_ = false;
};

// Which call fails, and how.
struct Fault {
  int at = -1;         // number of the call, from 0; -1: none
  int error = EIO;     // its errno
  bool lasts = false;  // all later calls fail, too
  bool half_writes =
      false;  // a WriteV() that is to fail writes half of its first part, and the next one fails
  bool drops_pages = false;  // a SyncData() that fails loses what had not been synced: it reads as zeros
  int num_more = 0;          // so many calls after it fail, too
};

// Thread-safe. It notes what would be synced instead of waiting for the disk. Close() is not counted: nobody
// asks how it went.
class TestLogFileSystem final : public ForwardingLogFileSystem {
 public:
  TestLogFileSystem() = default;
  explicit TestLogFileSystem(const Fault& fault) : fault_(fault) {}

  // For the calls to come; they are counted from 0 again.
  void set_fault(const Fault& fault) {
    const std::lock_guard lock(mutex_);
    fault_ = fault;
    calls_ = 0;
    failed_call_.clear();
  }

  // Takes the files that stand in `directory`, which an earlier boot has left, for synced.
  void AddDurable(const std::string& directory) {
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
      const std::string path = entry.path().string();
      files_[path] = File{-1, {ReadFile(path)}, true};
    }
  }

  // Name of the call that failed first; empty if none did.
  std::string failed_call() const {
    const std::lock_guard lock(mutex_);
    return failed_call_;
  }

  int MakeDirectory(const std::string& path) override {
    const std::lock_guard lock(mutex_);
    return Fails("MakeDirectory") ? -1 : ForwardingLogFileSystem::MakeDirectory(path);
  }

  int Create(const std::string& path) override {
    const std::lock_guard lock(mutex_);
    if (Fails("Create")) return -1;
    const int fd = ForwardingLogFileSystem::Create(path);
    if (fd >= 0) files_[path] = File{fd, {""}, false};
    return fd;
  }

  int Open(const std::string& path) override {
    const std::lock_guard lock(mutex_);
    if (Fails("Open")) return -1;
    const int fd = ForwardingLogFileSystem::Open(path);
    if (fd >= 0) files_.at(path).fd = fd;
    return fd;
  }

  int OpenToRead(const std::string& path) override {
    const std::lock_guard lock(mutex_);
    return Fails("OpenToRead") ? -1 : ForwardingLogFileSystem::OpenToRead(path);
  }

  ssize_t Read(int fd, void* bytes, size_t size) override {
    const std::lock_guard lock(mutex_);
    return Fails("Read") ? -1 : ForwardingLogFileSystem::Read(fd, bytes, size);
  }

  ssize_t WriteV(int fd, const iovec* parts, int num_parts) override {
    const std::lock_guard lock(mutex_);
    const bool fails = Fails("WriteV");
    if (fails && !(fault_.half_writes && parts[0].iov_len > 1)) return -1;
    const iovec half = {parts[0].iov_base, parts[0].iov_len / 2};
    if (fails) fault_.at = calls_;
    return fails ? ForwardingLogFileSystem::WriteV(fd, &half, 1)
                 : ForwardingLogFileSystem::WriteV(fd, parts, num_parts);
  }

  int Truncate(int fd, off_t size) override {
    const std::lock_guard lock(mutex_);
    if (Fails("Truncate")) return -1;
    const auto file = Find(fd);
    file->second.versions.push_back(ReadFile(file->first));
    return ForwardingLogFileSystem::Truncate(fd, size);
  }

  int SyncData(int fd) override {
    const std::lock_guard lock(mutex_);
    const auto file = Find(fd);
    if (Fails("SyncData")) {
      if (fault_.drops_pages) DropPages(*file);
      errno = fault_.error;
      return -1;
    }
    file->second.versions = {ReadFile(file->first)};
    return 0;
  }

  int Close(int fd) override {
    const std::lock_guard lock(mutex_);
    const auto file = Find(fd);
    if (file != files_.end()) file->second.fd = -1;
    return ForwardingLogFileSystem::Close(fd);
  }

  int Unlink(const std::string& path) override {
    const std::lock_guard lock(mutex_);
    if (Fails("Unlink")) return -1;
    if (const auto file = files_.find(path); file != files_.end()) {
      deleted_[path] = Versions(*file);
      files_.erase(file);
    }
    return ForwardingLogFileSystem::Unlink(path);
  }

  int SyncDirectory(const std::string& path) override {
    const std::lock_guard lock(mutex_);
    if (Fails("SyncDirectory")) return -1;
    for (auto& [name, file] : files_) file.name_synced = file.name_synced || IsIn(name, path);
    for (auto it = deleted_.begin(); it != deleted_.end();) {
      it = IsIn(it->first, path) ? deleted_.erase(it) : std::next(it);
    }
    return 0;
  }

  std::string BootId() override { return boot_id_ ? *boot_id_ : ForwardingLogFileSystem::BootId(); }
  void set_boot_id(const std::string& boot_id) { boot_id_ = boot_id; }

  // Puts into `directory` what is certain to be there after loss of power.
  void CopyDurable(const std::string& directory) const {
    for (const auto& file : files_) {
      if (!file.second.name_synced) continue;
      std::string certain = file.second.versions.front();
      for (const std::string& version : Versions(file)) {
        certain.resize(std::min(certain.size(), version.size()));
      }
      WriteFile(PathIn(directory, file.first), certain);
    }
  }

  // Puts into `directory` what loss of power might leave. Pages reach the disk in any order: each range of
  // bytes, each length and each name is, at random, as it was at one of the moments since it was last synced.
  void CopyAfterPowerLoss(const std::string& directory, std::mt19937* random) const {
    for (const auto& file : files_) {
      if (!file.second.name_synced && (*random)() % 2 == 0) continue;
      WriteFile(PathIn(directory, file.first), Mix(Versions(file), random));
    }
    for (const auto& [path, versions] : deleted_) {
      const std::string copy = PathIn(directory, path);
      if (std::filesystem::exists(copy) || (*random)() % 2 == 0) continue;
      WriteFile(copy, Mix(versions, random));
    }
  }

 private:
  struct File {
    int fd;  // -1: closed
    std::vector<std::string>
        versions;  // what it was when it was last synced and before each truncation since
    bool name_synced;
  };
  using Files = std::map<std::string, File>;

  static std::vector<std::string> Versions(const Files::value_type& file) {
    std::vector<std::string> versions = file.second.versions;
    versions.push_back(ReadFile(file.first));
    return versions;
  }

  static std::string PathIn(const std::string& directory, const std::string& path) {
    return (std::filesystem::path(directory) / std::filesystem::path(path).filename()).lexically_normal();
  }

  static bool IsIn(const std::string& path, const std::string& directory) {
    return PathIn(directory, path) == std::filesystem::path(path).lexically_normal();
  }

  static std::string Mix(const std::vector<std::string>& versions, std::mt19937* random) {
    const auto any = [&]() -> const std::string& { return versions[(*random)() % versions.size()]; };
    std::string mixed(any().size(), '\0');
    for (size_t begin = 0; begin < mixed.size();) {
      const size_t end = std::min<size_t>(mixed.size(), begin + 1 + (*random)() % 64);
      const std::string& source = any();
      for (size_t i = begin; i < std::min(end, source.size()); ++i) mixed[i] = source[i];
      begin = end;
    }
    return mixed;
  }

  static void DropPages(const Files::value_type& file) {
    const std::string& synced = file.second.versions.front();
    std::string left = ReadFile(file.first);
    const size_t num_kept = std::min(synced.size(), left.size());
    left.replace(num_kept, std::string::npos, left.size() - num_kept, '\0');
    WriteFile(file.first, left);
  }

  bool Fails(const char* call) {
    const int number = calls_++;
    if (fault_.at < 0 || number < fault_.at || (number > fault_.at + fault_.num_more && !fault_.lasts))
      return false;
    if (failed_call_.empty()) failed_call_ = call;
    errno = fault_.error;
    return true;
  }

  Files::iterator Find(int fd) {
    return std::find_if(files_.begin(), files_.end(), [&](const auto& file) { return file.second.fd == fd; });
  }

  mutable std::mutex mutex_;  // guards what follows
  Fault fault_;
  int calls_ = 0;
  std::string failed_call_;
  std::optional<std::string> boot_id_;  // nullopt: the machine's
  Files files_;
  std::map<std::string, std::vector<std::string>> deleted_;  // and the directory not synced since
};

}  // namespace damo

#endif  // DAMO_REDO_TEST_LOG_FILE_SYSTEM_H_
