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

// A change of `path`, which `note` tells the history if it succeeds.
template <typename Act, typename Note>
rocksdb::IOStatus NotedChange(DiskHistory* history, const char* name, const std::string& path, const Act& act,
                              const Note& note) {
  return history->Change(name, path, [&] {
    rocksdb::IOStatus status = act();
    if (status.ok()) note();
    return status;
  });
}

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
    return NotedChange(
        history_, "sync", path_, [&] { return target()->Flush(options, debug); },
        [&] { history_->Synced(*file_); });
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
    return NotedChange(
        history_, "create", path, [&] { return target()->NewWritableFile(path, options, file, debug); },
        [&] { Wrap(path, history_->Created(path), file); });
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
    return NotedChange(
        history_, "rename", from, [&] { return target()->RenameFile(from, to, options, debug); },
        [&] { history_->Renamed(from, to); });
  }
  rocksdb::IOStatus LinkFile(const std::string& from, const std::string& to,
                             const rocksdb::IOOptions& options, rocksdb::IODebugContext* debug) override {
    return NotedChange(
        history_, "link", from, [&] { return target()->LinkFile(from, to, options, debug); },
        [&] { history_->Linked(from, to); });
  }
  rocksdb::IOStatus DeleteFile(const std::string& path, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    return NotedChange(
        history_, "remove", path, [&] { return target()->DeleteFile(path, options, debug); },
        [&] { history_->Removed(path); });
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
