// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/rocksdb_unsynced_env.h"

#include <rocksdb/file_system.h>

#include <memory>
#include <string>
#include <utility>

namespace damo {
namespace {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

class UnsyncedFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  explicit UnsyncedFile(std::unique_ptr<rocksdb::FSWritableFile> file)
      : FSWritableFileOwnerWrapper(std::move(file)) {}

  IOStatus Sync(const IOOptions& /*options*/, IODebugContext* /*debug*/) override { return IOStatus::OK(); }
  IOStatus Fsync(const IOOptions& /*options*/, IODebugContext* /*debug*/) override { return IOStatus::OK(); }
  IOStatus RangeSync(uint64_t /*offset*/, uint64_t /*size*/, const IOOptions& /*options*/,
                     IODebugContext* /*debug*/) override {
    return IOStatus::OK();
  }
};

class UnsyncedDirectory final : public rocksdb::FSDirectoryWrapper {
 public:
  explicit UnsyncedDirectory(std::unique_ptr<rocksdb::FSDirectory> directory)
      : FSDirectoryWrapper(std::move(directory)) {}

  IOStatus Fsync(const IOOptions& /*options*/, IODebugContext* /*debug*/) override { return IOStatus::OK(); }
  IOStatus FsyncWithDirOptions(const IOOptions& /*options*/, IODebugContext* /*debug*/,
                               const rocksdb::DirFsyncOptions& /*what*/) override {
    return IOStatus::OK();
  }
};

class UnsyncedFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  using FileSystemWrapper::FileSystemWrapper;

  const char* Name() const override { return "damo.UnsyncedFileSystem"; }

  IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                           std::unique_ptr<rocksdb::FSWritableFile>* file, IODebugContext* debug) override {
    return Wrapped<UnsyncedFile>(target()->NewWritableFile(path, options, file, debug), file);
  }
  IOStatus ReopenWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                              std::unique_ptr<rocksdb::FSWritableFile>* file,
                              IODebugContext* debug) override {
    return Wrapped<UnsyncedFile>(target()->ReopenWritableFile(path, options, file, debug), file);
  }
  IOStatus NewDirectory(const std::string& path, const IOOptions& options,
                        std::unique_ptr<rocksdb::FSDirectory>* directory, IODebugContext* debug) override {
    return Wrapped<UnsyncedDirectory>(target()->NewDirectory(path, options, directory, debug), directory);
  }

 private:
  template <typename Wrapper, typename Object>
  static IOStatus Wrapped(IOStatus status, std::unique_ptr<Object>* object) {
    if (status.ok()) *object = std::make_unique<Wrapper>(std::move(*object));
    return status;
  }
};

}  // namespace

std::unique_ptr<rocksdb::Env> NewUnsyncedEnv(rocksdb::Env* env) {
  return rocksdb::NewCompositeEnv(std::make_shared<UnsyncedFileSystem>(env->GetFileSystem()));
}

}  // namespace damo
