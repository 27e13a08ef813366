// SPDX-License-Identifier: Apache-2.0
//
// FileGuard: keeps table files that a database may still need.
#ifndef DAMO_STORAGE_ROCKSDB_FILE_GUARD_H_
#define DAMO_STORAGE_ROCKSDB_FILE_GUARD_H_

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <memory>
#include <string>
#include <utility>

#include "damo/storage/rocksdb_write_failure.h"

namespace damo {

// A filesystem that removes nothing once a file could not be written. When the record of a sorted batch
// cannot be synced, RocksDB removes the batch's files; but the record may have reached the disk, and would
// then name files that are gone: the store could not be opened any more. What the record does not name in the
// end is removed by the next opening.
class FileGuard final : public rocksdb::FileSystemWrapper {
 public:
  FileGuard(const std::shared_ptr<rocksdb::FileSystem>& target, std::shared_ptr<const WriteFailure> failure)
      : FileSystemWrapper(target), failure_(std::move(failure)) {}

  const char* Name() const override { return "DamoFileGuard"; }

  rocksdb::IOStatus DeleteFile(const std::string& path, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    if (!failure_->first().ok()) return rocksdb::IOStatus::OK();
    return target()->DeleteFile(path, options, debug);
  }

 private:
  const std::shared_ptr<const WriteFailure> failure_;
};

// `env` with a guard, its clock and threads as they are. `env` outlives it.
class GuardedEnv final : public rocksdb::EnvWrapper {
 public:
  GuardedEnv(rocksdb::Env* env, std::shared_ptr<const WriteFailure> failure) : EnvWrapper(env) {
    file_system_ = std::make_shared<FileGuard>(env->GetFileSystem(), std::move(failure));
    system_clock_ = env->GetSystemClock();
  }
};

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_FILE_GUARD_H_
