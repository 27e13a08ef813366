// SPDX-License-Identifier: Apache-2.0
//
// A Storage on RocksDB: rows in the default column family, the manifest in one other. With memory_storage.h's
// twin the only implementation of Storage. Only rocksdb_storage.cc and rocksdb_options.* include rocksdb/*.
#ifndef DAMO_STORAGE_ROCKSDB_STORAGE_H_
#define DAMO_STORAGE_ROCKSDB_STORAGE_H_

#include <memory>
#include <string>

#include "damo/config/store_options.h"
#include "damo/storage/storage.h"

namespace damo {

struct RocksDbStorageOptions {
  // Bytes for block cache, indexes, filters and memtables together; at least StoreOptions::kMinMemoryBudget.
  int64_t memory_budget = StoreOptions::kDefaultMemoryBudget;
  Durability durability = Durability::kWal;
  bool read_only = false;
  bool create_if_missing = true;  // not done when read_only
};

// Opens the database in `directory`, creating directory and database if absent, unless read_only: NotFound.
// Refuses a path that is a file, a directory that holds something else, another's RocksDB database included
// (InvalidArgument, and nothing there is changed), and a store that is open for writing already, here or in
// another process (FailedPrecondition).
//
// After a failure to write one of its files, in the background or not, the storage writes no more: Write,
// Flush and Close fail, naming the first failure, until it is opened anew. Reads go on.
StatusOr<std::unique_ptr<Storage>> OpenRocksDbStorage(const std::string& directory,
                                                      const RocksDbStorageOptions& options);

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_STORAGE_H_
