// SPDX-License-Identifier: Apache-2.0
//
// HistoryEnv: the real filesystem, whose changes RocksDB makes through a DiskHistory.
#ifndef DAMO_STORAGE_TEST_HISTORY_ENV_H_
#define DAMO_STORAGE_TEST_HISTORY_ENV_H_

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <memory>
#include <string>
#include <utility>

#include "damo/base/test_disk_history.h"
#include "damo/storage/test_faults.h"

namespace damo {

class HistoryWritableFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  HistoryWritableFile(std::unique_ptr<rocksdb::FSWritableFile> target, std::string path,
                      DiskHistory::FilePointer file, DiskHistory* history)
      : FSWritableFileOwnerWrapper(std::move(target)),
        path_(std::move(path)),
        file_(std::move(file)),
        history_(history) {}

  // In two halves: the process may die between them.
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* debug) override {
    const size_t half = data.size() / 2;
    const rocksdb::Slice parts[] = {{data.data(), half}, {data.data() + half, data.size() - half}};
    for (const rocksdb::Slice& part : parts) {
      rocksdb::IOStatus status =
          history_->Change("write", path_, [&] { return target()->Append(part, options, debug); });
      if (!status.ok()) return status;
    }
    return rocksdb::IOStatus::OK();
  }
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           const rocksdb::DataVerificationInfo& /*verification*/,
                           rocksdb::IODebugContext* debug) override {
    return Append(data, options, debug);
  }
  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options, rocksdb::IODebugContext* debug) override {
    return history_->Change("sync", path_, [&] {
      rocksdb::IOStatus status = target()->Flush(options, debug);
      if (status.ok()) history_->Synced(*file_);
      return status;
    });
  }
  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options, rocksdb::IODebugContext* debug) override {
    return Sync(options, debug);
  }

 private:
  const std::string path_;
  const DiskHistory::FilePointer file_;
  DiskHistory* const history_;
};

class HistoryDirectory final : public rocksdb::FSDirectoryWrapper {
 public:
  HistoryDirectory(std::unique_ptr<rocksdb::FSDirectory> target, std::string path, DiskHistory* history)
      : FSDirectoryWrapper(std::move(target)), path_(std::move(path)), history_(history) {}

  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& /*options*/,
                          rocksdb::IODebugContext* /*debug*/) override {
    return history_->Change("sync directory", path_, [&] {
      history_->DirectorySynced(path_);
      return rocksdb::IOStatus::OK();
    });
  }
  rocksdb::IOStatus FsyncWithDirOptions(const rocksdb::IOOptions& options, rocksdb::IODebugContext* debug,
                                        const rocksdb::DirFsyncOptions& /*sync*/) override {
    return Fsync(options, debug);
  }

 private:
  const std::string path_;
  DiskHistory* const history_;
};

class HistoryFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  explicit HistoryFileSystem(DiskHistory* history)
      : FileSystemWrapper(rocksdb::FileSystem::Default()), history_(history) {}

  const char* Name() const override { return "HistoryFileSystem"; }

  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* debug) override {
    return history_->Change("create", path, [&] {
      rocksdb::IOStatus status = target()->NewWritableFile(path, options, file, debug);
      if (status.ok()) Wrap(path, history_->Created(path), file);
      return status;
    });
  }
  rocksdb::IOStatus ReopenWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                       std::unique_ptr<rocksdb::FSWritableFile>* file,
                                       rocksdb::IODebugContext* debug) override {
    return history_->Undisturbed([&] {
      rocksdb::IOStatus status = target()->ReopenWritableFile(path, options, file, debug);
      if (status.ok()) Wrap(path, history_->Find(path), file);
      return status;
    });
  }
  rocksdb::IOStatus NewDirectory(const std::string& path, const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* directory,
                                 rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus status = target()->NewDirectory(path, options, directory, debug);
    if (status.ok()) *directory = std::make_unique<HistoryDirectory>(std::move(*directory), path, history_);
    return status;
  }
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options, rocksdb::IODebugContext* debug) override {
    return history_->Change("rename", from, [&] {
      rocksdb::IOStatus status = target()->RenameFile(from, to, options, debug);
      if (status.ok()) history_->Renamed(from, to);
      return status;
    });
  }
  rocksdb::IOStatus LinkFile(const std::string& from, const std::string& to,
                             const rocksdb::IOOptions& options, rocksdb::IODebugContext* debug) override {
    return history_->Change("link", from, [&] {
      rocksdb::IOStatus status = target()->LinkFile(from, to, options, debug);
      if (status.ok()) history_->Linked(from, to);
      return status;
    });
  }
  rocksdb::IOStatus DeleteFile(const std::string& path, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    return history_->Change("remove", path, [&] {
      rocksdb::IOStatus status = target()->DeleteFile(path, options, debug);
      if (status.ok()) history_->Removed(path);
      return status;
    });
  }

 private:
  void Wrap(const std::string& path, DiskHistory::FilePointer known,
            std::unique_ptr<rocksdb::FSWritableFile>* file) {
    *file = std::make_unique<HistoryWritableFile>(std::move(*file), path, std::move(known), history_);
  }

  DiskHistory* const history_;
};

class HistoryEnv final : public rocksdb::EnvWrapper {
 public:
  // `history` outlives it.
  explicit HistoryEnv(DiskHistory* history)
      : EnvWrapper(rocksdb::NewCompositeEnv(std::make_shared<HistoryFileSystem>(history))) {
    system_clock_ = std::make_shared<SleeplessClock>();
  }
};

}  // namespace damo

#endif  // DAMO_STORAGE_TEST_HISTORY_ENV_H_
