// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/rocksdb_file_guard.h"

#include <rocksdb/file_system.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <shared_mutex>
#include <utility>

namespace damo {
namespace {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

// ---- the fence ----

// What all writing of one database passes. Once it is closed, none does. Thread-safe.
class Fence {
 public:
  // I/O under the lock on purpose: whoever closes the fence waits until what has passed it is done.
  template <typename Write>
  IOStatus Pass(const std::string& path, const Write& write) {
    const std::shared_lock<std::shared_mutex> lock(mutex_);
    if (closed_) return IOStatus::IOError("this database writes no more", path);
    return write();
  }

  void Close() {
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    closed_ = true;
  }

 private:
  std::shared_mutex mutex_;  // guards closed_
  bool closed_ = false;
};

class FencedFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  // `fence` outlives it.
  FencedFile(std::unique_ptr<rocksdb::FSWritableFile> file, std::string path, Fence* fence)
      : FSWritableFileOwnerWrapper(std::move(file)), path_(std::move(path)), fence_(fence) {}

  IOStatus Append(const Slice& data, const IOOptions& options, IODebugContext* debug) override {
    return fence_->Pass(path_, [&] { return target()->Append(data, options, debug); });
  }
  IOStatus Append(const Slice& data, const IOOptions& options,
                  const rocksdb::DataVerificationInfo& verification, IODebugContext* debug) override {
    return fence_->Pass(path_, [&] { return target()->Append(data, options, verification, debug); });
  }
  IOStatus PositionedAppend(const Slice& data, uint64_t offset, const IOOptions& options,
                            IODebugContext* debug) override {
    return fence_->Pass(path_, [&] { return target()->PositionedAppend(data, offset, options, debug); });
  }
  IOStatus PositionedAppend(const Slice& data, uint64_t offset, const IOOptions& options,
                            const rocksdb::DataVerificationInfo& verification,
                            IODebugContext* debug) override {
    return fence_->Pass(
        path_, [&] { return target()->PositionedAppend(data, offset, options, verification, debug); });
  }
  IOStatus Truncate(uint64_t size, const IOOptions& options, IODebugContext* debug) override {
    return fence_->Pass(path_, [&] { return target()->Truncate(size, options, debug); });
  }
  IOStatus Flush(const IOOptions& options, IODebugContext* debug) override {
    return fence_->Pass(path_, [&] { return target()->Flush(options, debug); });
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* debug) override {
    return fence_->Pass(path_, [&] { return target()->Sync(options, debug); });
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
    return fence_->Pass(path_, [&] { return target()->Fsync(options, debug); });
  }
  IOStatus Allocate(uint64_t offset, uint64_t size, const IOOptions& options,
                    IODebugContext* debug) override {
    return fence_->Pass(path_, [&] { return target()->Allocate(offset, size, options, debug); });
  }

 private:
  const std::string path_;
  Fence* const fence_;
};

// ---- reads that RocksDB does not check ----

// A file with its edges in memory: reads of them do not fail.
class EdgesFile final : public rocksdb::FSRandomAccessFileOwnerWrapper {
 public:
  explicit EdgesFile(std::unique_ptr<rocksdb::FSRandomAccessFile> file)
      : FSRandomAccessFileOwnerWrapper(std::move(file)) {}

  IOStatus Load(const FileEdges& edges, uint64_t file_bytes) {
    head_.resize(std::min(edges.head_bytes, file_bytes));
    // RocksDB begins with so much of the file's end, whatever is in it.
    constexpr uint64_t kPrefetchBytes = uint64_t{512} << 10;
    const uint64_t prefetch_offset = file_bytes - std::min(file_bytes, kPrefetchBytes);
    tail_offset_ = std::min(edges.tail_offset, prefetch_offset);
    tail_.resize(file_bytes - tail_offset_);
    IOStatus status = Fill(0, &head_);
    if (status.ok()) status = Fill(tail_offset_, &tail_);
    return status;
  }

  IOStatus Read(uint64_t offset, size_t size, const IOOptions& options, Slice* result, char* scratch,
                IODebugContext* debug) const override {
    if (offset + size <= head_.size()) return Copy(head_, offset, size, result, scratch);
    if (offset < tail_offset_) return target()->Read(offset, size, options, result, scratch, debug);
    const uint64_t begin = std::min<uint64_t>(offset - tail_offset_, tail_.size());
    return Copy(tail_, begin, std::min<uint64_t>(size, tail_.size() - begin), result, scratch);
  }

 private:
  IOStatus Fill(uint64_t offset, std::string* bytes) {
    if (bytes->empty()) return IOStatus::OK();
    Slice read;
    IOStatus status =
        target()->Read(offset, bytes->size(), IOOptions(), &read, bytes->data(), /*dbg=*/nullptr);
    if (!status.ok()) return status;
    if (read.size() != bytes->size()) return IOStatus::Corruption("the file is shorter than it was");
    if (read.data() != bytes->data()) std::memcpy(bytes->data(), read.data(), read.size());
    return status;
  }

  static IOStatus Copy(const std::string& from, uint64_t begin, size_t size, Slice* result, char* scratch) {
    std::memcpy(scratch, from.data() + begin, size);
    *result = Slice(scratch, size);
    return IOStatus::OK();
  }

  std::string head_;
  std::string tail_;
  uint64_t tail_offset_ = 0;
};

// What of a database's opening has failed to be read, and goes unnoticed otherwise. Thread-safe.
class OpeningReads {
 public:
  explicit OpeningReads(Fence* fence) : fence_(fence) {}

  void Note(const IOStatus& status) {
    if (status.ok()) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (ended_) return;
    if (failure_.ok()) failure_ = status;
    fence_->Close();
  }

  IOStatus End() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
    return failure_;
  }

 private:
  Fence* const fence_;
  std::mutex mutex_;  // guards what follows
  bool ended_ = false;
  IOStatus failure_;
};

class NotedFile final : public rocksdb::FSSequentialFileOwnerWrapper {
 public:
  // `reads` outlives it.
  NotedFile(std::unique_ptr<rocksdb::FSSequentialFile> file, OpeningReads* reads)
      : FSSequentialFileOwnerWrapper(std::move(file)), reads_(reads) {}

  IOStatus Read(size_t size, const IOOptions& options, Slice* result, char* scratch,
                IODebugContext* debug) override {
    IOStatus status = target()->Read(size, options, result, scratch, debug);
    reads_->Note(status);
    return status;
  }

 private:
  OpeningReads* const reads_;
};

}  // namespace

// ---- the filesystem ----

class FileGuard final : public rocksdb::FileSystemWrapper {
 public:
  FileGuard(const std::shared_ptr<rocksdb::FileSystem>& target, std::shared_ptr<const WriteFailure> failure,
            const IngestFolder* ingest_folder)
      : FileSystemWrapper(target), failure_(std::move(failure)), ingest_folder_(ingest_folder) {}

  const char* Name() const override { return "DamoFileGuard"; }

  Fence& fence() { return fence_; }
  OpeningReads& opening_reads() { return opening_reads_; }

  IOStatus NewSequentialFile(const std::string& path, const rocksdb::FileOptions& options,
                             std::unique_ptr<rocksdb::FSSequentialFile>* file,
                             IODebugContext* debug) override {
    IOStatus status = target()->NewSequentialFile(path, options, file, debug);
    if (status.ok()) *file = std::make_unique<NotedFile>(std::move(*file), &opening_reads_);
    return status;
  }

  // RocksDB opens a file of the folder only to take it over.
  IOStatus NewRandomAccessFile(const std::string& path, const rocksdb::FileOptions& options,
                               std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
                               IODebugContext* debug) override {
    IOStatus status = target()->NewRandomAccessFile(path, options, file, debug);
    const std::optional<FileEdges> edges = ingest_folder_->EdgesOf(path);
    if (!status.ok() || !edges) return status;
    uint64_t file_bytes = 0;
    status = target()->GetFileSize(path, IOOptions(), &file_bytes, debug);
    if (!status.ok()) return status;
    auto loaded = std::make_unique<EdgesFile>(std::move(*file));
    status = loaded->Load(*edges, file_bytes);
    if (status.ok()) *file = std::move(loaded);
    return status;
  }

  IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                           std::unique_ptr<rocksdb::FSWritableFile>* file, IODebugContext* debug) override {
    return Open(path, file, [&] {
      const IOStatus removed = RemoveIfThere(path, debug);
      return removed.ok() ? target()->NewWritableFile(path, options, file, debug) : removed;
    });
  }
  IOStatus ReopenWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                              std::unique_ptr<rocksdb::FSWritableFile>* file,
                              IODebugContext* debug) override {
    return Open(path, file, [&] { return target()->ReopenWritableFile(path, options, file, debug); });
  }
  IOStatus ReuseWritableFile(const std::string& path, const std::string& old_path,
                             const rocksdb::FileOptions& options,
                             std::unique_ptr<rocksdb::FSWritableFile>* file, IODebugContext* debug) override {
    return Open(path, file,
                [&] { return target()->ReuseWritableFile(path, old_path, options, file, debug); });
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions& options,
                      IODebugContext* debug) override {
    return fence_.Pass(from, [&] { return target()->RenameFile(from, to, options, debug); });
  }
  IOStatus LinkFile(const std::string& from, const std::string& to, const IOOptions& options,
                    IODebugContext* debug) override {
    return fence_.Pass(from, [&] { return target()->LinkFile(from, to, options, debug); });
  }
  IOStatus Truncate(const std::string& path, size_t size, const IOOptions& options,
                    IODebugContext* debug) override {
    return fence_.Pass(path, [&] { return target()->Truncate(path, size, options, debug); });
  }

  // When the record of a sorted batch cannot be synced, RocksDB removes the batch's files; but the record may
  // have reached the disk, and would then name files that are gone: the store could not be opened any more.
  // What the record does not name in the end is removed by the next opening.
  IOStatus DeleteFile(const std::string& path, const IOOptions& options, IODebugContext* debug) override {
    if (failure_->files_may_be_named()) return IOStatus::OK();
    const IOStatus removed = fence_.Pass(path, [&] { return target()->DeleteFile(path, options, debug); });
    // Two databases tidy up in one directory while one is opened in the place of the other.
    return removed.IsPathNotFound() ? IOStatus::OK() : removed;
  }

 private:
  template <typename OpenFile>
  IOStatus Open(const std::string& path, std::unique_ptr<rocksdb::FSWritableFile>* file,
                const OpenFile& open) {
    IOStatus status = fence_.Pass(path, open);
    if (status.ok()) *file = std::make_unique<FencedFile>(std::move(*file), path, &fence_);
    return status;
  }

  // A database that has failed may have begun a file under the number that the next one gives to one of its
  // own, and still cuts it to length when it closes it: that must be another file.
  IOStatus RemoveIfThere(const std::string& path, IODebugContext* debug) {
    if (!target()->FileExists(path, IOOptions(), debug).ok()) return IOStatus::OK();
    return target()->DeleteFile(path, IOOptions(), debug);
  }

  const std::shared_ptr<const WriteFailure> failure_;
  const IngestFolder* const ingest_folder_;
  Fence fence_;
  OpeningReads opening_reads_{&fence_};
};

// ---- the lock ----

struct DirectoryLock::Held {
  rocksdb::Env* env;
  rocksdb::FileLock* lock;
  // Fails if the file cannot be closed; then the lock is gone all the same.
  ~Held() { env->UnlockFile(lock).PermitUncheckedError(); }
};

struct DirectoryLock::Share final : public rocksdb::FileLock {
  std::shared_ptr<Held> held;
};

rocksdb::Status DirectoryLock::Lock(rocksdb::Env* env, const std::string& path, rocksdb::FileLock** lock) {
  auto share = std::make_unique<Share>();
  share->held = held_.lock();
  if (share->held == nullptr) {
    rocksdb::FileLock* taken = nullptr;
    rocksdb::Status status = env->LockFile(path, &taken);
    if (!status.ok()) return status;
    share->held.reset(new Held{env, taken});
    held_ = share->held;
  }
  *lock = share.release();
  return rocksdb::Status::OK();
}

rocksdb::Status DirectoryLock::Unlock(rocksdb::FileLock* lock) {
  delete static_cast<Share*>(lock);
  return rocksdb::Status::OK();
}

// ---- the env ----

GuardedEnv::GuardedEnv(rocksdb::Env* env, std::shared_ptr<const WriteFailure> failure,
                       const IngestFolder* ingest_folder, DirectoryLock* lock)
    : EnvWrapper(env),
      lock_(lock),
      guard_(std::make_shared<FileGuard>(env->GetFileSystem(), std::move(failure), ingest_folder)) {
  file_system_ = guard_;
  system_clock_ = env->GetSystemClock();
}

rocksdb::Status GuardedEnv::EndOpening() { return guard_->opening_reads().End(); }

void GuardedEnv::EndWriting() { guard_->fence().Close(); }

rocksdb::Status GuardedEnv::LockFile(const std::string& path, rocksdb::FileLock** lock) {
  return lock_->Lock(target(), path, lock);
}

rocksdb::Status GuardedEnv::UnlockFile(rocksdb::FileLock* lock) { return DirectoryLock::Unlock(lock); }

}  // namespace damo
