// SPDX-License-Identifier: Apache-2.0
//
// A SortedBatch as table files of RocksDB: written beside the database in key order, then taken over by it as
// they are. Rows pass neither write-ahead log nor memtable.
#ifndef DAMO_STORAGE_ROCKSDB_SORTED_BATCH_H_
#define DAMO_STORAGE_ROCKSDB_SORTED_BATCH_H_

#include <rocksdb/options.h>
#include <rocksdb/sst_file_writer.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "damo/storage/rocksdb_ingest_folder.h"
#include "damo/storage/row_order.h"
#include "damo/storage/storage.h"

namespace damo {

// One table file, rows or manifest values in ascending order. Thread-compatible.
class IngestFile {
 public:
  // `folder` outlives it.
  IngestFile(IngestFolder* folder, const rocksdb::Options& options);
  ~IngestFile();  // removes the file, unless the database took it over
  IngestFile(const IngestFile&) = delete;
  IngestFile& operator=(const IngestFile&) = delete;

  Status Open();  // called first
  Status Put(std::string_view key, std::string_view value);
  Status Delete(std::string_view key);
  Status Finish();  // called last: all of it is in the file and survives loss of power

  uint64_t num_bytes();  // written so far, in blocks that are full
  const std::string& path() const { return path_; }

 private:
  Status Added(const rocksdb::Status& status);

  IngestFolder* const folder_;
  std::optional<rocksdb::SstFileWriter> writer_;
  std::string path_;
  uint64_t head_bytes_ = 0;  // of the first block, once it is full
};

class RocksDbSortedBatch final : public SortedBatch {
 public:
  // Has the database take over the files at these paths, any of them, in one atomic step.
  using Ingest =
      std::function<Status(const std::vector<std::string>& rows, const std::vector<std::string>& manifest)>;

  struct Target {
    IngestFolder* folder;
    const rocksdb::Options* options;  // of the files
    uint64_t max_file_bytes;          // rows go to a new file beyond it
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
