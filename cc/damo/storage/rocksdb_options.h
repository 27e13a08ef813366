// SPDX-License-Identifier: Apache-2.0
//
// How RocksDB is set up to hold rows: small values under random keys, a table far larger than memory, one
// memory budget for everything.
#ifndef DAMO_STORAGE_ROCKSDB_OPTIONS_H_
#define DAMO_STORAGE_ROCKSDB_OPTIONS_H_

#include <rocksdb/cache.h>
#include <rocksdb/env.h>
#include <rocksdb/options.h>
#include <rocksdb/statistics.h>

#include <memory>

#include "damo/storage/rocksdb_storage.h"

namespace damo {

// What the column families of one open database share. Copies share the same parts.
struct SharedParts {
  std::shared_ptr<rocksdb::Cache> cache;
  std::shared_ptr<rocksdb::Statistics> statistics;
};

// The filesystem to work on.
rocksdb::Env* EnvOf(const RocksDbStorageOptions& options);

SharedParts MakeSharedParts(const RocksDbStorageOptions& options);

rocksdb::DBOptions MakeDbOptions(const RocksDbStorageOptions& options, const SharedParts& parts);

// Of both column families, rows and manifest.
rocksdb::ColumnFamilyOptions MakeFamilyOptions(const RocksDbStorageOptions& options,
                                               const SharedParts& parts);

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_OPTIONS_H_
