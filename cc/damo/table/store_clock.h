// SPDX-License-Identifier: Apache-2.0
//
// StoreClock: the time by which the rows of one store are dated and expire. It never goes back while the
// store is open, unless that is restored to an earlier state: what has expired stays so, and rows that have
// been released to compactions are never read again.
#ifndef DAMO_TABLE_STORE_CLOCK_H_
#define DAMO_TABLE_STORE_CLOCK_H_

#include <atomic>
#include <cstdint>

#include "damo/base/clock.h"

namespace damo {

// Thread-safe. Milliseconds since the Unix epoch, UTC.
class StoreClock {
 public:
  // Follows `source`, which is borrowed. Null: a clock of events, which stands at `first_millis` until told
  // otherwise.
  explicit StoreClock(const Clock* source, int64_t first_millis = 0)
      : source_(source), now_millis_(first_millis) {}

  bool is_event_clock() const { return source_ == nullptr; }

  int64_t NowMillis() const {
    if (source_ != nullptr) Raise(source_->NowMillis());
    return now_millis_;
  }

  // Notes the time of an event. An event earlier than another changes nothing. Requires an event clock.
  void AdvanceTo(int64_t millis) { Raise(millis); }
  // Goes to a time, also back. While no apply call runs and no row is released.
  void Restore(int64_t millis) { now_millis_ = millis; }

 private:
  void Raise(int64_t millis) const {
    int64_t now = now_millis_;
    while (now < millis && !now_millis_.compare_exchange_weak(now, millis)) {
    }
  }

  const Clock* const source_;
  mutable std::atomic<int64_t> now_millis_;
};

}  // namespace damo

#endif  // DAMO_TABLE_STORE_CLOCK_H_
