// SPDX-License-Identifier: Apache-2.0
//
// A SortedBatch as table files of RocksDB: written beside the database in key order, then taken over by it as
// they are. Rows pass neither write-ahead log nor memtable.
#ifndef DAMO_STORAGE_ROCKSDB_SORTED_BATCH_H_
#define DAMO_STORAGE_ROCKSDB_SORTED_BATCH_H_

#include <rocksdb/db.h>
#include <rocksdb/sst_file_writer.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "damo/storage/row_order.h"
#include "damo/storage/storage.h"

namespace damo {

// The folder of a store where the files of its sorted batches are until they are committed. Thread-safe.
class IngestFolder {
 public:
  IngestFolder(const std::string& directory, rocksdb::Env* env);

  // Removes what a process that died left there. Before any NewFile().
  Status RemoveLeftovers() const;

  // The path of a file that is not there yet; creates the folder.
  StatusOr<std::string> NewFile();

  // Of a path of NewFile(), whether or not there is a file. One that cannot be removed stays until the next
  // RemoveLeftovers().
  void Remove(const std::string& path) const;

 private:
  const std::string path_;
  rocksdb::Env* const env_;
  std::atomic<uint64_t> num_files_{0};
};

// One table file, rows or manifest values in ascending order. Thread-compatible.
class IngestFile {
 public:
  // `folder` and `database` outlive it. The file has the options of `family`.
  IngestFile(IngestFolder* folder, rocksdb::DB* database, rocksdb::ColumnFamilyHandle* family);
  ~IngestFile();  // removes the file, unless the database took it over
  IngestFile(const IngestFile&) = delete;
  IngestFile& operator=(const IngestFile&) = delete;

  Status Open();  // called first
  Status Put(std::string_view key, std::string_view value);
  Status Delete(std::string_view key);
  Status Finish();  // called last: all of it is in the file and survives loss of power

  uint64_t num_bytes();  // written so far
  const std::string& path() const { return path_; }

 private:
  IngestFolder* const folder_;
  std::optional<rocksdb::SstFileWriter> writer_;
  std::string path_;
};

class RocksDbSortedBatch final : public SortedBatch {
 public:
  // Takes over the files named, of all families in one atomic step.
  using Ingest = std::function<Status(const std::vector<rocksdb::IngestExternalFileArg>& files)>;

  struct Target {
    IngestFolder* folder;
    rocksdb::DB* database;
    rocksdb::ColumnFamilyHandle* rows;
    rocksdb::ColumnFamilyHandle* manifest;
    uint64_t max_file_bytes;  // rows go to a new file beyond it
    Ingest ingest;
  };

  // What `target` points to outlives the batch.
  explicit RocksDbSortedBatch(Target target) : target_(std::move(target)) {}

  Status PutRow(uint8_t group, uint64_t key, std::string_view row) override;
  Status DeleteRow(uint8_t group, uint64_t key) override;
  Status PutManifest(std::string_view name, std::string_view value) override;
  Status DeleteManifest(std::string_view name) override;
  Status Finish() override;
  Status Commit() override;

 private:
  // Adds a row, or its deletion where nullopt.
  Status AddRow(uint8_t group, uint64_t key, std::optional<std::string_view> row);
  Status StartRowFileIfNeeded();
  Status WriteManifestFile();

  const Target target_;
  RowOrder order_;
  std::vector<std::unique_ptr<IngestFile>> row_files_;  // in key order; the last one is being written
  std::unique_ptr<IngestFile> manifest_file_;
  std::map<std::string, std::optional<std::string>, std::less<>> manifest_;  // nullopt: deleted
  bool finished_ = false;
  Status failure_;  // the first one: a batch that lacks something is never committed
};

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_SORTED_BATCH_H_
