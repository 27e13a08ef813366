// SPDX-License-Identifier: Apache-2.0
//
// A Storage on RocksDB: rows in the default column family, the manifest in one other. With memory_storage.h's
// twin the only implementation of Storage; rocksdb_storage.cc is the only file that includes rocksdb/*.
#ifndef DAMO_STORAGE_ROCKSDB_STORAGE_H_
#define DAMO_STORAGE_ROCKSDB_STORAGE_H_

#include <memory>
#include <string>

#include "damo/config/store_options.h"
#include "damo/storage/storage.h"

namespace damo {

struct RocksDbStorageOptions {
  // Bytes for block cache, indexes, filters and memtables together.
  int64_t memory_budget = StoreOptions::kDefaultMemoryBudget;
  Durability durability = Durability::kWal;
  bool read_only = false;
};

// Opens the database in `directory`, creating directory and database if absent (not when read_only). Refuses
// a directory that holds other files but no database, and one that another process has open for writing.
StatusOr<std::unique_ptr<Storage>> OpenRocksDbStorage(const std::string& directory,
                                                      const RocksDbStorageOptions& options);

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_STORAGE_H_
