// SPDX-License-Identifier: Apache-2.0
//
// A StorageImage of a RocksDB database.
#ifndef DAMO_STORAGE_ROCKSDB_IMAGE_H_
#define DAMO_STORAGE_ROCKSDB_IMAGE_H_

#include <rocksdb/env.h>
#include <rocksdb/metadata.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "damo/storage/rocksdb_database.h"
#include "damo/storage/storage.h"

namespace damo {

// While it stands the database deletes no file, so that each can be linked or copied later than at the moment
// it shows. rocksdb::Checkpoint does all of it in one call, during which nothing could be written.
class RocksDbImage final : public StorageImage {
 public:
  // Of `database`, on the filesystem of `env`, which is borrowed. Its memtables must be empty: what is in
  // them is left out. Takes milliseconds. Should the database fail and be opened anew meanwhile, files may be
  // deleted all the same: then WriteTo() fails.
  static StatusOr<std::unique_ptr<StorageImage>> Take(std::shared_ptr<RocksDbDatabase> database,
                                                      rocksdb::Env* env);

  ~RocksDbImage() override;
  RocksDbImage(const RocksDbImage&) = delete;
  RocksDbImage& operator=(const RocksDbImage&) = delete;

  StatusOr<std::vector<StorageFile>> WriteTo(const std::string& directory,
                                             const ByteProgress& progress) const override;

 private:
  RocksDbImage(std::shared_ptr<RocksDbDatabase> database, rocksdb::Env* env)
      : database_(std::move(database)), env_(env) {}

  const std::shared_ptr<RocksDbDatabase> database_;
  rocksdb::Env* const env_;
  std::vector<rocksdb::LiveFileStorageInfo> files_;
};

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_IMAGE_H_
