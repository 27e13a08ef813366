// SPDX-License-Identifier: Apache-2.0
//
// Clock: where the engine reads the time from, so that tests can set it.
#ifndef DAMO_BASE_CLOCK_H_
#define DAMO_BASE_CLOCK_H_

#include <atomic>
#include <cstdint>

namespace damo {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Milliseconds since the Unix epoch, UTC.
  virtual int64_t NowMillis() const = 0;

  // The machine's wall clock; never destroyed.
  static const Clock* System();
};

// A clock that stands still until told otherwise. For tests.
class FakeClock final : public Clock {
 public:
  explicit FakeClock(int64_t now_millis) : now_millis_(now_millis) {}
  int64_t NowMillis() const override { return now_millis_.load(); }
  void AdvanceMillis(int64_t millis) { now_millis_ += millis; }

 private:
  std::atomic<int64_t> now_millis_;
};

}  // namespace damo

#endif  // DAMO_BASE_CLOCK_H_
