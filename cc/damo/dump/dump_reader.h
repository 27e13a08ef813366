// SPDX-License-Identifier: Apache-2.0
//
// DumpReader: reads a dump from its beginning, checking everything that the format says.
#ifndef DAMO_DUMP_DUMP_READER_H_
#define DAMO_DUMP_DUMP_READER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "damo/base/status.h"
#include "damo/dump/dump_format.h"
#include "damo/storage/file.h"

namespace damo {

struct DumpRecord {
  uint8_t group;
  uint64_t key;
  std::string_view weights;  // float32 [dim], not aligned; valid until the next call
};

// Thread-compatible. Memory: one megabyte.
class DumpReader {
 public:
  // Opens a file and checks its header and its size. InvalidArgument if it is no dump, or is cut short.
  static StatusOr<std::unique_ptr<DumpReader>> Open(const std::string& path);

  const DumpHeader& header() const { return header_; }

  // The next record; nullopt after the last. InvalidArgument, with the offset, for one of a group that has no
  // more rows by the header.
  StatusOr<std::optional<DumpRecord>> Next();
  // Where the record that Next() returned last begins.
  uint64_t record_offset() const { return record_offset_; }

  // Begins again with the first record.
  void Rewind();

 private:
  DumpReader(std::string path, File file, const DumpHeader& header, uint64_t file_bytes);

  const std::string path_;
  const File file_;
  const DumpHeader header_;
  const uint64_t file_bytes_;
  std::unique_ptr<RangeReader> records_;
  DumpHeader left_;  // rows that are still to come
  uint64_t record_offset_ = 0;
};

}  // namespace damo

#endif  // DAMO_DUMP_DUMP_READER_H_
