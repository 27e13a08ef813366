// SPDX-License-Identifier: Apache-2.0
//
// GuardedEnv: the filesystem as one opening of a database sees it. It keeps a database that has failed from
// doing harm, and sees to it that reads which RocksDB does not check cannot fail.
#ifndef DAMO_STORAGE_ROCKSDB_FILE_GUARD_H_
#define DAMO_STORAGE_ROCKSDB_FILE_GUARD_H_

#include <rocksdb/env.h>

#include <memory>
#include <string>

#include "damo/storage/rocksdb_ingest_folder.h"
#include "damo/storage/rocksdb_write_failure.h"

namespace damo {

// The lock on a store's directory: taken by the first of its databases that is opened, given back when none
// is left. So a database can be opened while the one before it, which has failed, is still being read. Open
// one database at a time.
class DirectoryLock {
 public:
  rocksdb::Status Lock(rocksdb::Env* env, const std::string& path, rocksdb::FileLock** lock);
  static rocksdb::Status Unlock(rocksdb::FileLock* lock);

 private:
  struct Held;
  struct Share;
  std::weak_ptr<Held> held_;
};

class FileGuard;

// Thread-safe.
class GuardedEnv final : public rocksdb::EnvWrapper {
 public:
  // `env`, `ingest_folder` and `lock` outlive it. Clock and threads are those of `env`.
  GuardedEnv(rocksdb::Env* env, std::shared_ptr<const WriteFailure> failure,
             const IngestFolder* ingest_folder, DirectoryLock* lock);

  // To be called when the database is open. Fails if one of its logs could not be read meanwhile: to RocksDB
  // such a log is at its end. In that case nothing has been written since, nor will be.
  rocksdb::Status EndOpening();

  // When it returns no writing is under way any more, and from then on all of it fails; files are neither
  // removed nor renamed. Reading goes on.
  void EndWriting();

  rocksdb::Status LockFile(const std::string& path, rocksdb::FileLock** lock) override;
  rocksdb::Status UnlockFile(rocksdb::FileLock* lock) override;

 private:
  DirectoryLock* const lock_;
  std::shared_ptr<FileGuard> guard_;
};

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_FILE_GUARD_H_
