// SPDX-License-Identifier: Apache-2.0
#include "damo/redo/segment_writer.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <system_error>

#include "damo/base/crc32c.h"

namespace damo {
namespace {

constexpr char kZeros[kFrameAlignment] = {};

iovec PartOf(const char* data, size_t size) {
  return {const_cast<char*>(data), size};  // iovec serves reading, too; writev(2) leaves the bytes alone
}

// Drops the first `bytes` of what is to be written.
Span<iovec> WithoutFirst(Span<iovec> parts, size_t bytes) {
  size_t whole = 0;
  while (whole < parts.size() && bytes >= parts[whole].iov_len) bytes -= parts[whole++].iov_len;
  parts = parts.subspan(whole, parts.size() - whole);
  if (bytes > 0) {
    parts[0].iov_base = static_cast<char*>(parts[0].iov_base) + bytes;
    parts[0].iov_len -= bytes;
  }
  return parts;
}

// Returns false with errno set if not all could be written. No part is empty.
bool WriteAll(LogFileSystem* file_system, int fd, Span<iovec> parts) {
  while (!parts.empty()) {
    const int num_parts = static_cast<int>(std::min<size_t>(parts.size(), IOV_MAX));
    const ssize_t written = file_system->WriteV(fd, parts.data(), num_parts);
    if (written < 0 && errno == EINTR) continue;
    if (written == 0) errno = EIO;  // no progress, for no reason given
    if (written <= 0) return false;
    parts = WithoutFirst(parts, static_cast<size_t>(written));
  }
  return true;
}

}  // namespace

Status LogFileError(std::string_view action, const std::string& path) {
  return IoError(action, " '", path, "': ", std::error_code(errno, std::generic_category()).message());
}

Frame::Frame(Span<const std::string_view> pieces) {
  parts_.reserve(pieces.size() + 2);
  parts_.push_back(PartOf(header_bytes_.data(), header_bytes_.size()));
  for (const std::string_view piece : pieces) {
    if (piece.empty()) continue;
    parts_.push_back(PartOf(piece.data(), piece.size()));
    header_.body_crc = ExtendCrc32c(header_.body_crc, piece);
    header_.record_bytes += piece.size();
  }
  const size_t padding = FramePadding(header_.record_bytes);
  if (padding > 0) parts_.push_back(PartOf(kZeros, padding));
  header_.body_crc = ExtendCrc32c(header_.body_crc, {kZeros, padding});
  bytes_ = kFrameHeaderBytes + header_.record_bytes + padding;
}

void Frame::SetLsn(uint64_t lsn, uint64_t synced_lsn) {
  header_.lsn = lsn;
  header_.synced_lsn = synced_lsn;
  header_bytes_ = EncodeFrameHeader(header_);
}

SegmentWriter::~SegmentWriter() {
  if (fd_ >= 0) file_system_->Close(fd_);  // what close(2) could report, Sync() has reported
}

Status SegmentWriter::Create() {
  torn_ = true;
  fd_ = file_system_->Create(path_);
  if (fd_ < 0) return LogFileError("create redo segment", path_);
  SegmentHeader header;
  header.first_lsn = first_lsn_;
  const auto bytes = EncodeSegmentHeader(header);
  iovec parts[] = {PartOf(bytes.data(), bytes.size())};
  if (!WriteAll(file_system_, fd_, parts)) return LogFileError("write redo segment", path_);
  bytes_ = bytes.size();
  torn_ = false;
  return Status();
}

Status SegmentWriter::Adopt(uint64_t end_lsn, uint64_t bytes) {
  fd_ = file_system_->Open(path_);
  if (fd_ < 0) return LogFileError("open redo segment", path_);
  struct stat info;
  if (fstat(fd_, &info) != 0) return LogFileError("open redo segment", path_);
  if (static_cast<uint64_t>(info.st_size) != bytes &&
      file_system_->Truncate(fd_, static_cast<off_t>(bytes)) != 0) {
    return LogFileError("truncate redo segment", path_);
  }
  end_lsn_ = end_lsn;
  bytes_ = bytes;
  return Status();
}

Status SegmentWriter::Append(Frame* frame, uint64_t synced_lsn) {
  frame->SetLsn(end_lsn_, synced_lsn);
  torn_ = true;
  if (!WriteAll(file_system_, fd_, frame->parts())) return LogFileError("write redo segment", path_);
  bytes_ += frame->bytes();
  ++end_lsn_;
  torn_ = false;
  return Status();
}

Status SegmentWriter::Undo() {
  const bool made = fd_ >= 0;  // else there is no file, or one that is not ours
  if (made && empty()) DAMO_RETURN_IF_ERROR(Remove());
  if (made && !empty() && file_system_->Truncate(fd_, static_cast<off_t>(bytes_)) != 0) {
    return LogFileError("truncate redo segment", path_);
  }
  torn_ = false;
  return Status();
}

Status SegmentWriter::Sync() {
  while (file_system_->SyncData(fd_) != 0) {
    if (errno != EINTR) return LogFileError("sync redo segment", path_);
  }
  return Status();
}

Status SegmentWriter::Remove() {
  if (file_system_->Unlink(path_) == 0 || errno == ENOENT) return Status();
  return LogFileError("delete redo segment", path_);
}

}  // namespace damo
