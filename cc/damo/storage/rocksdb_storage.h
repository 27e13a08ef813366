// SPDX-License-Identifier: Apache-2.0
//
// A Storage on RocksDB: rows in the default column family, the manifest in one other. With memory_storage.h's
// twin the only implementation of Storage. Only rocksdb_*.{h,cc}
// include rocksdb/*.
#ifndef DAMO_STORAGE_ROCKSDB_STORAGE_H_
#define DAMO_STORAGE_ROCKSDB_STORAGE_H_

#include <memory>
#include <string>

#include "damo/config/store_options.h"
#include "damo/storage/storage.h"

namespace rocksdb {
class Env;
}

namespace damo {

struct RocksDbStorageOptions {
  static constexpr int64_t kMinMemoryBudget = int64_t{1} << 20;

  // Bytes for block cache, indexes, filters and memtables together; at least kMinMemoryBudget.
  int64_t memory_budget = StoreOptions::kDefaultMemoryBudget;
  // Bytes at which a memtable is full; there are at most two. 0: an eighth of the budget, at most 256 MiB,
  // for rows that come by Write(). Where they come by sorted batches little is enough, and leaves more to the
  // block cache.
  int64_t memtable_bytes = 0;
  // Whether blocks of rows are kept after they were read. Not where the rows themselves are: a dozen times as
  // many fit into the same memory.
  bool cache_row_blocks = true;
  Durability durability = Durability::kWal;
  bool read_only = false;
  // Of a read-only one: whether a writer may be beside it, which deletes files. Then all are held open, as
  // many as there are.
  bool beside_writer = true;
  bool create_if_missing = true;  // not done when read_only
  // Whether the files are of no use once this storage is gone: then nothing waits for the disk.
  bool temporary = false;
  rocksdb::Env* env_for_test = nullptr;  // a filesystem that fails on demand; outlives the storage
};

// Opens the database in `directory`, creating directory and database if absent, unless read_only: NotFound.
// Refuses a path that is a file, a directory that holds something else, another's RocksDB database included
// (InvalidArgument, and nothing there is changed), and a store that is open for writing already, here or in
// another process (FailedPrecondition).
//
// After a failure to write one of its files, in the background or not, a database writes no more; reads go
// on. The next Write, Flush, Close or commit opens the database anew and goes on with that. Where this fails,
// too, as on a disk that is still full, the call fails, naming the first failure, and the next one tries
// again. What was acknowledged is there; a Write that failed stays undone; of a commit that failed all may be
// there, or nothing: to settle that, SettleCommit() opens the database anew, too. Reads under way end as of
// the moment they began, or fail. In Durability::kCheckpoint writes are in memory only and would be lost:
// there all writing ends until the storage is closed and opened again. Files of a sorted batch that could not
// be written fail that batch only.
StatusOr<std::unique_ptr<Storage>> OpenRocksDbStorage(const std::string& directory,
                                                      const RocksDbStorageOptions& options);

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_STORAGE_H_
