// SPDX-License-Identifier: Apache-2.0
#include "damo/redo/segment_reader.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "damo/base/crc32c.h"
#include "damo/redo/segment_writer.h"

namespace damo {

Status SegmentDamage(const std::string& path, uint64_t offset, std::string_view what) {
  return DataLoss("redo segment '", path, "', offset ", offset, ": ", what);
}

StatusOr<SegmentReader> SegmentReader::Open(LogFileSystem* file_system, const std::string& directory,
                                            uint64_t first_lsn) {
  SegmentReader reader(SegmentPath(directory, first_lsn), first_lsn);
  const int fd = file_system->OpenToRead(reader.path_);
  if (fd < 0) return LogFileError("open redo segment", reader.path_);
  Status status =
      reader.ReadAll(file_system, fd) ? Status() : LogFileError("read redo segment", reader.path_);
  file_system->Close(fd);
  if (!status.ok()) return status;
  return reader;
}

bool SegmentReader::ReadAll(LogFileSystem* file_system, int fd) {
  struct stat info;
  if (fstat(fd, &info) != 0) return false;
  const auto capacity = static_cast<size_t>(info.st_size);
  data_.reset(new char[capacity]);  // not filled with zeros first, as a string would be
  while (size_ < capacity) {
    const ssize_t got = file_system->Read(fd, data_.get() + size_, capacity - size_);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return false;
    if (got == 0) break;
    size_ += static_cast<size_t>(got);
  }
  return true;
}

StatusOr<SegmentEnd> SegmentReader::Read(uint64_t first_wanted, const RedoVisitor& visit) const {
  const std::optional<SegmentHeader> header = DecodeSegmentHeader(bytes());
  if (!header) return SegmentEnd{first_lsn_, 0, "the segment header is bad", kFrameAlignment};
  DAMO_RETURN_IF_ERROR(CheckHeader(*header));
  uint64_t lsn = first_lsn_;
  size_t offset = kSegmentHeaderBytes;
  for (; offset < size_; ++lsn) {
    const std::optional<FrameHeader> frame = DecodeFrameHeader(bytes().substr(offset));
    if (!frame) return SegmentEnd{lsn, offset, "the frame header is bad", offset + kFrameAlignment};
    if (frame->lsn != lsn) {
      return SegmentDamage(path_, offset, StrCat("the frame has LSN ", frame->lsn, ", expected ", lsn));
    }
    const std::optional<std::string_view> body = Body(offset, *frame);
    if (!body) return SegmentEnd{lsn, offset, "the frame is cut short", size_};
    const size_t end = offset + kFrameHeaderBytes + body->size();
    if (Crc32c(*body) != frame->body_crc) return SegmentEnd{lsn, offset, "the record is bad", end};
    if (lsn >= first_wanted) DAMO_RETURN_IF_ERROR(visit(lsn, body->substr(0, frame->record_bytes)));
    offset = end;
  }
  return SegmentEnd{lsn, offset, "", offset};
}

Status SegmentReader::CheckHeader(const SegmentHeader& header) const {
  if (header.version != kRedoFormatVersion) {
    return InvalidArgument("redo segment '", path_, "' has format ", header.version, "; this build reads ",
                           kRedoFormatVersion);
  }
  if (header.first_lsn == first_lsn_) return Status();
  return SegmentDamage(path_, 0,
                       StrCat("the segment header has LSN ", header.first_lsn, ", its name ", first_lsn_));
}

std::optional<std::string_view> SegmentReader::Body(size_t offset, const FrameHeader& frame) const {
  const std::string_view rest = bytes().substr(offset + kFrameHeaderBytes);
  const size_t padding = FramePadding(frame.record_bytes);
  if (frame.record_bytes > rest.size() || padding > rest.size() - frame.record_bytes) return std::nullopt;
  return rest.substr(0, frame.record_bytes + padding);
}

std::optional<size_t> SegmentReader::FindFrame(size_t offset, const FrameSearch& search) const {
  while (offset + kFrameHeaderBytes <= size_) {
    const std::optional<FrameHeader> frame = DecodeFrameHeader(bytes().substr(offset));
    // There is room for so many records in between and no more.
    const uint64_t first = std::max(first_lsn_, search.due);
    if (!frame || frame->lsn < first || frame->lsn - first > size_ / kFrameHeaderBytes) {
      offset += kFrameAlignment;
      continue;
    }
    if (frame->lsn >= search.min_lsn && frame->synced_lsn >= search.min_synced_lsn) return offset;
    const std::optional<std::string_view> body = Body(offset, *frame);
    if (!body) break;
    offset += kFrameHeaderBytes + body->size();
  }
  return std::nullopt;
}

}  // namespace damo
