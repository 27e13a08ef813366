// SPDX-License-Identifier: Apache-2.0
//
// RowSorter: brings rows into the order of (group, key), more of them than fit in memory.
#ifndef DAMO_DUMP_ROW_SORTER_H_
#define DAMO_DUMP_ROW_SORTER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "damo/base/status.h"
#include "damo/dump/row_source.h"
#include "damo/storage/file.h"

namespace damo {

// Thread-compatible. What does not fit in memory waits in one file without a name, which goes with the
// process.
class RowSorter {
 public:
  struct Options {
    std::string directory;                         // of the file; made if absent
    size_t buffer_bytes = size_t{32} << 20;        // of rows in memory while they come
    size_t merge_buffer_bytes = size_t{16} << 20;  // for reading them again
  };

  explicit RowSorter(Options options) : options_(std::move(options)) {}

  Status Add(uint8_t group, uint64_t key, std::string_view row);

  // All rows in order, equal keys in the order they came. Called once, after the last Add(); the sorter
  // outlives the source.
  StatusOr<std::unique_ptr<RowSource>> Finish();

 private:
  struct Entry {
    uint64_t key;
    uint64_t offset;  // of the row in rows_
    uint32_t size;
    uint8_t group;
  };
  // A part of the file, in order.
  struct Run {
    uint64_t begin;
    uint64_t end;
  };
  class MemorySource;
  class RunSource;
  class MergeSource;

  void SortEntries();
  Status Spill();
  Status OpenFile();

  const Options options_;
  std::vector<Entry> entries_;
  std::string rows_;  // of entries_, as they came
  File file_;
  uint64_t file_bytes_ = 0;
  std::vector<Run> runs_;
};

}  // namespace damo

#endif  // DAMO_DUMP_ROW_SORTER_H_
