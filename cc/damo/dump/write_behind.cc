// SPDX-License-Identifier: Apache-2.0
#include "damo/dump/write_behind.h"

#include <utility>

#include "damo/base/catch_exceptions.h"

namespace damo {

WriteBehind::WriteBehind(std::function<Status(std::string_view part)> write)
    : write_(std::move(write)),
      filled_(new char[kBufferBytes]),
      passed_on_(new char[kBufferBytes]),
      thread_([this] { Serve(); }) {}

WriteBehind::~WriteBehind() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

// Waits until what was passed on before is written, then passes on what is filled.
Status WriteBehind::PassOn() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return num_passed_on_ == 0; });
  DAMO_RETURN_IF_ERROR(status_);
  filled_.swap(passed_on_);
  num_passed_on_ = std::exchange(num_filled_, 0);
  changed_.notify_all();
  return Status();
}

Status WriteBehind::Flush() {
  DAMO_RETURN_IF_ERROR(PassOn());
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return num_passed_on_ == 0; });
  return status_;
}

// What the thread does.
void WriteBehind::Serve() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || num_passed_on_ > 0; });
    if (stopping_) return;
    const std::string_view part(passed_on_.get(), num_passed_on_);
    lock.unlock();
    Status written = CatchExceptions([&] { return write_(part); });
    lock.lock();
    status_ = std::move(written);
    num_passed_on_ = 0;
    changed_.notify_all();
  }
}

}  // namespace damo
