// SPDX-License-Identifier: Apache-2.0
//
// Files that lie beside a database or elsewhere: an open file that closes itself, and a reader that holds a
// small part of one in memory.
#ifndef DAMO_STORAGE_FILE_H_
#define DAMO_STORAGE_FILE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "damo/base/status.h"

namespace damo {

// "action 'path': " and what errno says.
Status FileError(std::string_view action, const std::string& path);

// An open file; closed when this goes.
class File {
 public:
  File() = default;  // none
  explicit File(int fd) : fd_(fd) {}
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~File();
  bool is_open() const { return fd_ >= 0; }
  int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

// Writes all of `bytes` at `offset`. `path` is for messages, here and below.
Status WriteAllAt(int fd, std::string_view bytes, uint64_t offset, const std::string& path);

// Reads bytes [begin, end) of a file in order, some at a time. Thread-compatible.
class RangeReader {
 public:
  // `fd` is borrowed. Memory: `buffer_bytes`, or the largest Take() if that is more.
  RangeReader(int fd, std::string path, uint64_t begin, uint64_t end, size_t buffer_bytes);

  uint64_t offset() const { return offset_; }
  uint64_t remaining() const { return end_ - offset_; }
  // The next `size` bytes, at most remaining(); valid until the next call. InvalidArgument if the file has
  // become shorter.
  StatusOr<std::string_view> Take(size_t size) {
    if (in_buffer_ - taken_ < size) DAMO_RETURN_IF_ERROR(Fill(size));
    const std::string_view bytes(buffer_.get() + taken_, size);
    taken_ += size;
    offset_ += size;
    return bytes;
  }

 private:
  // Makes `size` bytes at least available in the buffer.
  Status Fill(size_t size);

  int fd_;
  std::string path_;
  uint64_t offset_;  // of the next byte to be taken
  uint64_t end_;
  std::unique_ptr<char[]> buffer_;
  size_t capacity_;
  size_t taken_ = 0;
  size_t in_buffer_ = 0;
};

}  // namespace damo

#endif  // DAMO_STORAGE_FILE_H_
