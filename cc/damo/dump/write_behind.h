// SPDX-License-Identifier: Apache-2.0
//
// WriteBehind: a stream of bytes, of which a thread writes one part while the next one is made.
#ifndef DAMO_DUMP_WRITE_BEHIND_H_
#define DAMO_DUMP_WRITE_BEHIND_H_

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>

#include "damo/base/status.h"

namespace damo {

// Thread-compatible. Has two buffers, whatever is written.
class WriteBehind {
 public:
  static constexpr size_t kBufferBytes = size_t{4} << 20;

  // `write` is called by a thread of this object's own with part after part, and not again once it has
  // failed.
  explicit WriteBehind(std::function<Status(std::string_view part)> write);
  // What was not flushed may never be written.
  ~WriteBehind();
  WriteBehind(const WriteBehind&) = delete;
  WriteBehind& operator=(const WriteBehind&) = delete;

  // Appends `num_bytes`, at most kBufferBytes, which the caller puts where the pointer says before the next
  // call. Fails with what `write` failed with, perhaps of earlier bytes.
  StatusOr<char*> Append(size_t num_bytes) {
    if (num_bytes > kBufferBytes - num_filled_) DAMO_RETURN_IF_ERROR(PassOn());
    char* const room = filled_.get() + num_filled_;
    num_filled_ += num_bytes;
    return room;
  }

  // Returns when all that was appended is written.
  Status Flush();

 private:
  Status PassOn();
  void Serve();

  const std::function<Status(std::string_view part)> write_;
  std::unique_ptr<char[]> filled_;
  size_t num_filled_ = 0;

  std::mutex mutex_;  // guards what follows; `passed_on_` itself is the thread's while it has bytes
  std::condition_variable changed_;
  std::unique_ptr<char[]> passed_on_;
  size_t num_passed_on_ = 0;  // 0: all is written
  bool stopping_ = false;
  Status status_;
  std::thread thread_;  // last: begins when all else is there
};

}  // namespace damo

#endif  // DAMO_DUMP_WRITE_BEHIND_H_
