// SPDX-License-Identifier: Apache-2.0
//
// SegmentReader: one segment file that is being read.
#ifndef DAMO_REDO_SEGMENT_READER_H_
#define DAMO_REDO_SEGMENT_READER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "damo/base/status.h"
#include "damo/redo/log_file_system.h"
#include "damo/redo/redo_format.h"
#include "damo/redo/redo_log.h"

namespace damo {

// How far the records of a segment go.
struct SegmentEnd {
  uint64_t lsn = 0;     // of the record that would be next
  uint64_t offset = 0;  // behind the last record; 0 if not even the header is good
  std::string bad;      // what is wrong there; empty: the file ends there
  uint64_t behind = 0;  // where a frame could begin behind what is bad
};

// Which frame FindFrame() is to find.
struct FrameSearch {
  uint64_t due = 0;             // LSN of the record that the bad place should have had: none is below it
  uint64_t min_lsn = 0;         // of the frame
  uint64_t min_synced_lsn = 0;  // what it says had been synced, at least
};

// Holds the whole file. Thread-compatible.
class SegmentReader {
 public:
  // The file must be there.
  static StatusOr<SegmentReader> Open(LogFileSystem* file_system, const std::string& directory,
                                      uint64_t first_lsn);

  // Visits its records from `first_wanted` on, up to the first that is bad. DataLoss if the header or a good
  // frame has another LSN than is due, InvalidArgument for another release's format.
  StatusOr<SegmentEnd> Read(uint64_t first_wanted, const RedoVisitor& visit) const;

  // Offset of the first frame header behind `offset` that can be one of this segment's and is what is looked
  // for. What good headers say are records is not searched.
  std::optional<size_t> FindFrame(size_t offset, const FrameSearch& search) const;

  const std::string& path() const { return path_; }
  size_t size() const { return size_; }

 private:
  SegmentReader(std::string path, uint64_t first_lsn) : path_(std::move(path)), first_lsn_(first_lsn) {}
  bool ReadAll(LogFileSystem* file_system, int fd);
  std::string_view bytes() const { return {data_.get(), size_}; }
  Status CheckHeader(const SegmentHeader& header) const;
  // Record and padding of the frame at `offset`, nullopt if the file ends before they do.
  std::optional<std::string_view> Body(size_t offset, const FrameHeader& frame) const;

  std::string path_;
  uint64_t first_lsn_;
  std::unique_ptr<char[]> data_;
  size_t size_ = 0;
};

// DataLoss: "redo segment 'PATH', offset OFFSET: " and what is wrong.
Status SegmentDamage(const std::string& path, uint64_t offset, std::string_view what);

}  // namespace damo

#endif  // DAMO_REDO_SEGMENT_READER_H_
