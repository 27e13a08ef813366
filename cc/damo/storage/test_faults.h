// SPDX-License-Identifier: Apache-2.0
//
// FaultFileSystem: the real filesystem, failing on demand. A test counts the operations of a run, then
// repeats the run with each of them failing.
#ifndef DAMO_STORAGE_TEST_FAULTS_H_
#define DAMO_STORAGE_TEST_FAULTS_H_

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <rocksdb/system_clock.h>

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace damo {

enum class FileOperation { kCreate, kWrite, kSync, kRead, kRename, kLink, kSyncDirectory };
enum class FaultKind { kNoSpace, kIoError };

// What is to fail, what was done, and what of it would survive a loss of power. Shared by a filesystem and
// its files. Thread-safe.
class FaultPlan {
 public:
  struct Fault {
    FileOperation operation;
    int first;   // the number, from 0, of the first such operation that fails
    bool lasts;  // all after it fail, too
    FaultKind kind;
    std::string path_part = {};  // of operations on paths with this in them; the others do not count
  };

  // Counts from anew. nullopt: nothing fails any more, and what has been counted stands.
  void Set(const std::optional<Fault>& fault) {
    const std::lock_guard<std::mutex> lock(mutex_);
    fault_ = fault;
    if (!fault) return;
    count_ = 0;
    num_failed_ = 0;
  }

  int num_failed() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return num_failed_;
  }

  // Called for each operation, before it is done.
  rocksdb::IOStatus Check(FileOperation operation, const std::string& path) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!fault_ || fault_->operation != operation) return rocksdb::IOStatus::OK();
    if (path.find(fault_->path_part) == std::string::npos) return rocksdb::IOStatus::OK();
    const int number = count_++;
    if (number < fault_->first) return rocksdb::IOStatus::OK();
    if (number > fault_->first && !fault_->lasts) return rocksdb::IOStatus::OK();
    ++num_failed_;
    if (fault_->kind == FaultKind::kIoError) return rocksdb::IOStatus::IOError("injected", path);
    rocksdb::IOStatus status = rocksdb::IOStatus::NoSpace("injected", path);
    status.SetRetryable(true);  // as the real filesystem has it
    return status;
  }

  void SetSyncedBytes(const std::string& path, uint64_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    synced_bytes_[path] = bytes;
  }
  void SetRenamed(const std::string& from, const std::string& to) {
    const std::lock_guard<std::mutex> lock(mutex_);
    synced_bytes_[to] = synced_bytes_[from];
    synced_bytes_.erase(from);
  }
  void SetLinked(const std::string& from, const std::string& to) {
    const std::lock_guard<std::mutex> lock(mutex_);
    synced_bytes_[to] = synced_bytes_[from];
  }

  // Cuts every file down to what was synced. Names are kept. No file may be open.
  void LosePower() { LosePower("", ""); }
  // The same for the files of `directory` in a copy of it.
  void LosePower(const std::string& directory, const std::string& copy) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [path, bytes] : synced_bytes_) {
      if (path.compare(0, directory.size(), directory) != 0) continue;
      const std::string file = copy + path.substr(directory.size());
      std::error_code removed_meanwhile;
      if (std::filesystem::file_size(file, removed_meanwhile) <= bytes || removed_meanwhile) continue;
      std::filesystem::resize_file(file, bytes);
    }
  }

 private:
  std::mutex mutex_;  // guards all of it
  std::optional<Fault> fault_;
  int count_ = 0;  // of operations that the fault may be of
  int num_failed_ = 0;
  std::map<std::string, uint64_t> synced_bytes_;
};

class FaultWritableFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  FaultWritableFile(std::unique_ptr<rocksdb::FSWritableFile> file, std::string path,
                    std::shared_ptr<FaultPlan> plan)
      : FSWritableFileOwnerWrapper(std::move(file)), path_(std::move(path)), plan_(std::move(plan)) {}

  // A write that fails leaves half of it.
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* debug) override {
    const rocksdb::IOStatus fault = plan_->Check(FileOperation::kWrite, path_);
    if (fault.ok()) return target()->Append(data, options, debug);
    const rocksdb::Slice half(data.data(), data.size() / 2);
    const rocksdb::IOStatus written = target()->Append(half, options, debug);
    return written.ok() ? fault : written;
  }
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           const rocksdb::DataVerificationInfo& /*verification*/,
                           rocksdb::IODebugContext* debug) override {
    return Append(data, options, debug);
  }
  // Real syncs are left out: they take time, and a loss of power is simulated.
  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options, rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus status = plan_->Check(FileOperation::kSync, path_);
    if (status.ok()) status = target()->Flush(options, debug);
    if (!status.ok()) return status;
    std::error_code ignored;  // of a file removed meanwhile
    plan_->SetSyncedBytes(path_, std::filesystem::file_size(path_, ignored));
    return status;
  }
  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options, rocksdb::IODebugContext* debug) override {
    return Sync(options, debug);
  }

 private:
  const std::string path_;
  const std::shared_ptr<FaultPlan> plan_;
};

class FaultReadableFile final : public rocksdb::FSRandomAccessFileOwnerWrapper {
 public:
  FaultReadableFile(std::unique_ptr<rocksdb::FSRandomAccessFile> file, std::string path,
                    std::shared_ptr<FaultPlan> plan)
      : FSRandomAccessFileOwnerWrapper(std::move(file)), path_(std::move(path)), plan_(std::move(plan)) {}

  rocksdb::IOStatus Read(uint64_t offset, size_t size, const rocksdb::IOOptions& options,
                         rocksdb::Slice* result, char* scratch,
                         rocksdb::IODebugContext* debug) const override {
    const rocksdb::IOStatus fault = plan_->Check(FileOperation::kRead, path_);
    return fault.ok() ? target()->Read(offset, size, options, result, scratch, debug) : fault;
  }
  rocksdb::IOStatus MultiRead(rocksdb::FSReadRequest* requests, size_t num_requests,
                              const rocksdb::IOOptions& options, rocksdb::IODebugContext* debug) override {
    const rocksdb::IOStatus fault = plan_->Check(FileOperation::kRead, path_);
    return fault.ok() ? target()->MultiRead(requests, num_requests, options, debug) : fault;
  }

 private:
  const std::string path_;
  const std::shared_ptr<FaultPlan> plan_;
};

class FaultSequentialFile final : public rocksdb::FSSequentialFileOwnerWrapper {
 public:
  FaultSequentialFile(std::unique_ptr<rocksdb::FSSequentialFile> file, std::string path,
                      std::shared_ptr<FaultPlan> plan)
      : FSSequentialFileOwnerWrapper(std::move(file)), path_(std::move(path)), plan_(std::move(plan)) {}

  rocksdb::IOStatus Read(size_t size, const rocksdb::IOOptions& options, rocksdb::Slice* result,
                         char* scratch, rocksdb::IODebugContext* debug) override {
    const rocksdb::IOStatus fault = plan_->Check(FileOperation::kRead, path_);
    return fault.ok() ? target()->Read(size, options, result, scratch, debug) : fault;
  }

 private:
  const std::string path_;
  const std::shared_ptr<FaultPlan> plan_;
};

class FaultDirectory final : public rocksdb::FSDirectoryWrapper {
 public:
  FaultDirectory(std::unique_ptr<rocksdb::FSDirectory> directory, std::string path,
                 std::shared_ptr<FaultPlan> plan)
      : FSDirectoryWrapper(std::move(directory)), path_(std::move(path)), plan_(std::move(plan)) {}

  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& /*options*/,
                          rocksdb::IODebugContext* /*debug*/) override {
    return plan_->Check(FileOperation::kSyncDirectory, path_);
  }
  rocksdb::IOStatus FsyncWithDirOptions(const rocksdb::IOOptions& /*options*/,
                                        rocksdb::IODebugContext* /*debug*/,
                                        const rocksdb::DirFsyncOptions& /*sync*/) override {
    return plan_->Check(FileOperation::kSyncDirectory, path_);
  }

 private:
  const std::string path_;
  const std::shared_ptr<FaultPlan> plan_;
};

class FaultFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  explicit FaultFileSystem(std::shared_ptr<FaultPlan> plan)
      : FileSystemWrapper(rocksdb::FileSystem::Default()), plan_(std::move(plan)) {}

  const char* Name() const override { return "FaultFileSystem"; }

  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus status = plan_->Check(FileOperation::kCreate, path);
    if (status.ok()) status = target()->NewWritableFile(path, options, file, debug);
    if (!status.ok()) return status;
    plan_->SetSyncedBytes(path, 0);
    return Wrap<FaultWritableFile>(path, file);
  }
  rocksdb::IOStatus ReopenWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                       std::unique_ptr<rocksdb::FSWritableFile>* file,
                                       rocksdb::IODebugContext* debug) override {
    const rocksdb::IOStatus status = target()->ReopenWritableFile(path, options, file, debug);
    return status.ok() ? Wrap<FaultWritableFile>(path, file) : status;
  }
  rocksdb::IOStatus NewRandomAccessFile(const std::string& path, const rocksdb::FileOptions& options,
                                        std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
                                        rocksdb::IODebugContext* debug) override {
    const rocksdb::IOStatus status = target()->NewRandomAccessFile(path, options, file, debug);
    return status.ok() ? Wrap<FaultReadableFile>(path, file) : status;
  }
  rocksdb::IOStatus NewSequentialFile(const std::string& path, const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSSequentialFile>* file,
                                      rocksdb::IODebugContext* debug) override {
    const rocksdb::IOStatus status = target()->NewSequentialFile(path, options, file, debug);
    return status.ok() ? Wrap<FaultSequentialFile>(path, file) : status;
  }
  rocksdb::IOStatus NewDirectory(const std::string& path, const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* directory,
                                 rocksdb::IODebugContext* debug) override {
    const rocksdb::IOStatus status = target()->NewDirectory(path, options, directory, debug);
    return status.ok() ? Wrap<FaultDirectory>(path, directory) : status;
  }
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options, rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus status = plan_->Check(FileOperation::kRename, from);
    if (status.ok()) status = target()->RenameFile(from, to, options, debug);
    if (status.ok()) plan_->SetRenamed(from, to);
    return status;
  }
  rocksdb::IOStatus LinkFile(const std::string& from, const std::string& to,
                             const rocksdb::IOOptions& options, rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus status = plan_->Check(FileOperation::kLink, from);
    if (status.ok()) status = target()->LinkFile(from, to, options, debug);
    if (status.ok()) plan_->SetLinked(from, to);
    return status;
  }

 private:
  // Puts the failing file around `*file`.
  template <typename Wrapper, typename File>
  rocksdb::IOStatus Wrap(const std::string& path, std::unique_ptr<File>* file) {
    *file = std::make_unique<Wrapper>(std::move(*file), path, plan_);
    return rocksdb::IOStatus::OK();
  }

  const std::shared_ptr<FaultPlan> plan_;
};

// A clock that does not sleep: RocksDB waits a second before it retries a flush.
class SleeplessClock final : public rocksdb::SystemClockWrapper {
 public:
  SleeplessClock() : SystemClockWrapper(rocksdb::SystemClock::Default()) {}
  const char* Name() const override { return "SleeplessClock"; }
  void SleepForMicroseconds(int /*micros*/) override {}
};

class FaultEnv final : public rocksdb::EnvWrapper {
 public:
  explicit FaultEnv(std::shared_ptr<FaultPlan> plan)
      : EnvWrapper(rocksdb::NewCompositeEnv(std::make_shared<FaultFileSystem>(std::move(plan)))) {
    system_clock_ = std::make_shared<SleeplessClock>();
  }
};

}  // namespace damo

#endif  // DAMO_STORAGE_TEST_FAULTS_H_
