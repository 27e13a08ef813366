// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/file.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace damo {

Status FileError(std::string_view action, const std::string& path) {
  return IoError(action, " '", path, "': ", std::generic_category().message(errno));
}

File::~File() {
  if (fd_ >= 0) close(fd_);
}

Status WriteAllAt(int fd, std::string_view bytes, uint64_t offset, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return FileError("write file", path);
    bytes.remove_prefix(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
  return Status();
}

RangeReader::RangeReader(int fd, std::string path, uint64_t begin, uint64_t end, size_t buffer_bytes)
    : fd_(fd),
      path_(std::move(path)),
      offset_(begin),
      end_(end),
      buffer_(new char[buffer_bytes]),
      capacity_(buffer_bytes) {}

Status RangeReader::Fill(size_t size) {
  const size_t kept = in_buffer_ - taken_;
  if (size > capacity_) {
    std::unique_ptr<char[]> larger(new char[size]);
    std::memcpy(larger.get(), buffer_.get() + taken_, kept);
    buffer_ = std::move(larger);
    capacity_ = size;
  } else {
    std::memmove(buffer_.get(), buffer_.get() + taken_, kept);
  }
  taken_ = 0;
  in_buffer_ = kept;
  while (in_buffer_ < size) {
    const uint64_t next = offset_ + in_buffer_;
    const size_t wanted = static_cast<size_t>(std::min<uint64_t>(capacity_ - in_buffer_, end_ - next));
    const ssize_t got = pread(fd_, buffer_.get() + in_buffer_, wanted, static_cast<off_t>(next));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError("read file", path_);
    if (got == 0)
      return InvalidArgument("file '", path_, "' ends at byte ", next, ", expected ", end_, " bytes");
    in_buffer_ += static_cast<size_t>(got);
  }
  return Status();
}

}  // namespace damo
