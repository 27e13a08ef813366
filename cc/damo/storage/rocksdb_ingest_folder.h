// SPDX-License-Identifier: Apache-2.0
//
// IngestFolder: where the table files of sorted batches are until a database takes them over.
#ifndef DAMO_STORAGE_ROCKSDB_INGEST_FOLDER_H_
#define DAMO_STORAGE_ROCKSDB_INGEST_FOLDER_H_

#include <rocksdb/env.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "damo/base/status.h"

namespace damo {

// Which parts of a finished table file a database reads when it takes the file over: the first block of
// entries, and everything from the last one on. Of a file with one block of entries both begin at 0.
struct FileEdges {
  uint64_t head_bytes = 0;
  uint64_t tail_offset = 0;
};

// Thread-safe.
class IngestFolder {
 public:
  IngestFolder(const std::string& directory, rocksdb::Env* env);

  // Removes what a process that died left there. Before any NewFile().
  Status RemoveLeftovers() const;

  // The path of a file that is not there yet; creates the folder.
  StatusOr<std::string> NewFile();

  // Of a path of NewFile(), whether or not there is a file. One that cannot be removed stays until the next
  // RemoveLeftovers().
  void Remove(const std::string& path);

  // Says, of a path of NewFile() whose file is finished, where its edges are.
  void SetEdges(const std::string& path, const FileEdges& edges);
  // nullopt for a path that is none of a finished file of this folder.
  std::optional<FileEdges> EdgesOf(const std::string& path) const;

 private:
  const std::string path_;
  rocksdb::Env* const env_;
  std::atomic<uint64_t> num_files_{0};
  mutable std::mutex mutex_;  // guards edges_
  std::map<std::string, FileEdges> edges_;
};

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_INGEST_FOLDER_H_
