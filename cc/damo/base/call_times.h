// SPDX-License-Identifier: Apache-2.0
//
// CallTimes: how often something was called, and how long the calls took together.
#ifndef DAMO_BASE_CALL_TIMES_H_
#define DAMO_BASE_CALL_TIMES_H_

#include <atomic>
#include <chrono>
#include <cstdint>

namespace damo {

// Thread-safe. Calls that run at the same time count with the time of each.
class CallTimes {
 public:
  // A call, from the making of this object to its end.
  class Call {
   public:
    explicit Call(CallTimes& times) : times_(times), begin_(std::chrono::steady_clock::now()) {}
    ~Call() {
      const auto time = std::chrono::steady_clock::now() - begin_;
      const int64_t nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
      times_.nanos_.fetch_add(nanos, std::memory_order_relaxed);
      times_.num_calls_.fetch_add(1, std::memory_order_relaxed);
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    CallTimes& times_;
    const std::chrono::steady_clock::time_point begin_;
  };

  // Of calls that have ended. Read one after the other, they may be of different moments.
  int64_t num_calls() const { return num_calls_.load(std::memory_order_relaxed); }
  int64_t nanos() const { return nanos_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> num_calls_{0};
  std::atomic<int64_t> nanos_{0};
};

}  // namespace damo

#endif  // DAMO_BASE_CALL_TIMES_H_
