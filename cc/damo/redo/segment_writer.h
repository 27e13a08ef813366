// SPDX-License-Identifier: Apache-2.0
//
// Frame: a record with what goes before and behind it in a segment. SegmentWriter: one segment file that is
// being written.
#ifndef DAMO_REDO_SEGMENT_WRITER_H_
#define DAMO_REDO_SEGMENT_WRITER_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "damo/base/span.h"
#include "damo/base/status.h"
#include "damo/redo/log_file_system.h"
#include "damo/redo/redo_format.h"

namespace damo {

// Borrows the pieces. Its address must not change: its parts point into it.
class Frame {
 public:
  // Computes the checksum of the record, which is most of the work; needs no lock.
  explicit Frame(Span<const std::string_view> pieces);
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  void SetLsn(uint64_t lsn, uint64_t synced_lsn);
  uint64_t bytes() const { return bytes_; }
  // None is empty. Valid after SetLsn(), for one write: writing shortens them.
  Span<iovec> parts() { return parts_; }

 private:
  FrameHeader header_;
  std::array<char, kFrameHeaderBytes> header_bytes_;
  std::vector<iovec> parts_;
  uint64_t bytes_;
};

// Thread-compatible, except that Sync() may run beside everything but the destructor.
class SegmentWriter {
 public:
  SegmentWriter(LogFileSystem* file_system, const std::string& directory, uint64_t first_lsn)
      : file_system_(file_system),
        path_(SegmentPath(directory, first_lsn)),
        first_lsn_(first_lsn),
        end_lsn_(first_lsn) {}
  ~SegmentWriter();  // closes the file and leaves it where it is
  SegmentWriter(const SegmentWriter&) = delete;
  SegmentWriter& operator=(const SegmentWriter&) = delete;

  // Makes the file, which must not exist, with its header.
  Status Create();
  // Instead of Create(): takes up a file that stands, whose records before `end_lsn` take `bytes`, and cuts
  // off what is behind them. It is not to be appended to.
  Status Adopt(uint64_t end_lsn, uint64_t bytes);
  // Gives the frame the number end_lsn() and writes it; the records before `synced_lsn` have been synced.
  // After a failure part of it may be in the file, until Undo().
  Status Append(Frame* frame, uint64_t synced_lsn);
  // After a failed Create() or Append(): makes the file what it was before; one without records is deleted.
  Status Undo();
  Status Sync();
  Status Remove();

  // Whether something failed, by an exception perhaps, and Undo() has not succeeded since.
  bool torn() const { return torn_; }

  const std::string& path() const { return path_; }
  uint64_t end_lsn() const { return end_lsn_; }  // that of the record that would be next
  bool empty() const { return end_lsn_ == first_lsn_; }
  uint64_t bytes() const { return bytes_; }

 private:
  LogFileSystem* const file_system_;
  const std::string path_;
  const uint64_t first_lsn_;
  uint64_t end_lsn_;
  uint64_t bytes_ = 0;  // of header and whole frames
  bool torn_ = false;
  int fd_ = -1;
};

// "ACTION 'PATH': " and what errno says.
Status LogFileError(std::string_view action, const std::string& path);

}  // namespace damo

#endif  // DAMO_REDO_SEGMENT_WRITER_H_
