// SPDX-License-Identifier: Apache-2.0
//
// TimeToLive: how long a row lives without an update (contract C10).
#ifndef DAMO_CONFIG_TIME_TO_LIVE_H_
#define DAMO_CONFIG_TIME_TO_LIVE_H_

#include <cstdint>
#include <limits>
#include <optional>

#include "damo/base/status.h"

namespace damo {

// Row times are milliseconds in int64.
inline constexpr int64_t kMaxTtlSeconds = std::numeric_limits<int64_t>::max() / 1000;

// Fails unless 0 < ttl_seconds <= kMaxTtlSeconds.
inline Status ValidateTtlSeconds(int64_t ttl_seconds) {
  if (ttl_seconds > 0 && ttl_seconds <= kMaxTtlSeconds) return Status();
  return InvalidArgument("ttl_seconds must be > 0 and <= ", kMaxTtlSeconds,
                         ". Received: ttl_seconds=", ttl_seconds);
}

// A plain value. Times are milliseconds since the Unix epoch, at least 0.
class TimeToLive {
 public:
  TimeToLive() = default;  // for ever
  // nullopt: for ever. Else ValidateTtlSeconds() holds.
  explicit TimeToLive(std::optional<int64_t> seconds) : millis_(seconds ? *seconds * 1000 : kForever) {}

  bool is_forever() const { return millis_ == kForever; }
  // Whether a row last updated then is past its time to live at `now_millis`.
  bool Expired(int64_t update_time, int64_t now_millis) const { return now_millis - update_time >= millis_; }
  // Rows last updated then or earlier, and no others, are expired at `now_millis`; below 0 if none can be.
  int64_t LastExpired(int64_t now_millis) const { return now_millis - millis_; }

 private:
  static constexpr int64_t kForever = std::numeric_limits<int64_t>::max();

  int64_t millis_ = kForever;
};

}  // namespace damo

#endif  // DAMO_CONFIG_TIME_TO_LIVE_H_
