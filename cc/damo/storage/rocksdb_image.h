// SPDX-License-Identifier: Apache-2.0
//
// A StorageImage of a RocksDB database.
#ifndef DAMO_STORAGE_ROCKSDB_IMAGE_H_
#define DAMO_STORAGE_ROCKSDB_IMAGE_H_

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/metadata.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "damo/storage/storage.h"

namespace damo {

// While it stands the database deletes no file, so that each can be linked or copied later than at the moment
// it shows. rocksdb::Checkpoint does all of it in one call, during which nothing could be written.
class RocksDbImage final : public StorageImage {
 public:
  // Of `database`, on the filesystem of `env`; both are borrowed. Its memtables must be empty: what is in
  // them is left out. Takes milliseconds.
  static StatusOr<std::unique_ptr<StorageImage>> Take(rocksdb::DB* database, rocksdb::Env* env);

  ~RocksDbImage() override;
  RocksDbImage(const RocksDbImage&) = delete;
  RocksDbImage& operator=(const RocksDbImage&) = delete;

  StatusOr<std::vector<StorageFile>> WriteTo(const std::string& directory) const override;

 private:
  RocksDbImage(rocksdb::DB* database, rocksdb::Env* env) : database_(database), env_(env) {}

  rocksdb::DB* const database_;
  rocksdb::Env* const env_;
  std::vector<rocksdb::LiveFileStorageInfo> files_;
};

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_IMAGE_H_
