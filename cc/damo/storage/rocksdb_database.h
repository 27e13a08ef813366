// SPDX-License-Identifier: Apache-2.0
//
// RocksDbDatabase: one opening of the RocksDB database in a store's directory. A storage opens another when
// one has failed to write, and whoever still reads from that one does so to its end.
#ifndef DAMO_STORAGE_ROCKSDB_DATABASE_H_
#define DAMO_STORAGE_ROCKSDB_DATABASE_H_

#include <rocksdb/db.h>
#include <rocksdb/write_batch.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "damo/base/status.h"
#include "damo/storage/rocksdb_compaction_meter.h"
#include "damo/storage/rocksdb_compaction_wait.h"
#include "damo/storage/rocksdb_file_guard.h"
#include "damo/storage/rocksdb_ingest_folder.h"
#include "damo/storage/rocksdb_options.h"
#include "damo/storage/rocksdb_released_rows.h"
#include "damo/storage/rocksdb_write_failure.h"

namespace damo {

inline constexpr char kManifestFamily[] = "manifest";

// Thread-safe.
class RocksDbDatabase {
 public:
  // What the databases that one storage opens have in common. Outlives them.
  struct Common {
    std::string directory;
    RocksDbStorageOptions options;
    SharedParts parts;
    const IngestFolder* ingest_folder;
    DirectoryLock* lock;
    std::shared_ptr<ReleasedRows> released;
  };

  // FailedPrecondition if another process, or another storage, has it open for writing. A failure names no
  // path: the caller does.
  static StatusOr<std::shared_ptr<RocksDbDatabase>> Open(const Common& common, bool create);

  // Ends it as the death of the process would, if it was not closed.
  ~RocksDbDatabase();
  RocksDbDatabase(const RocksDbDatabase&) = delete;
  RocksDbDatabase& operator=(const RocksDbDatabase&) = delete;

  // Called once, when no other call is running or will follow. Flushes nothing that is in the log.
  rocksdb::Status Close();

  rocksdb::DB* operator->() const { return db_.get(); }
  rocksdb::DB* get() const { return db_.get(); }
  rocksdb::ColumnFamilyHandle* rows() const { return rows_; }
  rocksdb::ColumnFamilyHandle* manifest() const { return manifest_; }

  // The first failure to write a file, OK while there was none. It is there before the call that met it
  // returns.
  rocksdb::Status failure() const { return write_failure_->first(); }

  // As rocksdb::DB::Write(). A batch that a failing disk kept from being written is remembered.
  rocksdb::Status Write(const rocksdb::WriteOptions& options, rocksdb::WriteBatch* batch);

  // As rocksdb::DB::IngestExternalFiles(), of files for rows() and manifest(). No Write() runs meanwhile.
  // While one of these families has no files in its last level, waits for the compactions under way.
  rocksdb::Status Ingest(const std::vector<rocksdb::IngestExternalFileArg>& files);

  // Bytes of the files that compactions of rows have written since it was opened.
  uint64_t num_compacted_bytes() const { return compaction_meter_->num_bytes(); }

  // Returns when level 0 has fewer than `max_files` files of rows, or the database has failed.
  void WaitForCompactions(uint64_t max_files);

  // When it returns no writing is under way any more, and from then on all of it fails. Reading goes on.
  // Fails if it cannot read what writes that failed were to replace; may be called again.
  Status EndWriting();

  // Of `fresh`, opened after EndWriting(): takes back what it has, from the log, of writes that failed here.
  Status UndoFailedWrites(RocksDbDatabase& fresh);

 private:
  explicit RocksDbDatabase(const Common& common);
  Status OpenFiles(const Common& common, bool create);
  uint64_t NumLevel0Files() const;
  bool LastLevelIsEmpty(rocksdb::ColumnFamilyHandle* family) const;
  void DestroyHandles();

  const std::shared_ptr<WriteFailure> write_failure_ = std::make_shared<WriteFailure>();
  const std::shared_ptr<CompactionWait> compaction_wait_ = std::make_shared<CompactionWait>();
  const std::shared_ptr<CompactionMeter> compaction_meter_ = std::make_shared<CompactionMeter>();
  GuardedEnv env_;
  std::shared_mutex write_mutex_;   // shared by writes under way, exclusive for who must be without them
  std::mutex failed_writes_mutex_;  // guards the next two
  std::vector<rocksdb::WriteBatch> failed_writes_;
  rocksdb::WriteBatch undo_;  // of those of which the old values have been read
  std::unique_ptr<rocksdb::DB> db_;
  rocksdb::ColumnFamilyHandle* rows_ = nullptr;  // these two go before db_
  rocksdb::ColumnFamilyHandle* manifest_ = nullptr;
};

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_DATABASE_H_
