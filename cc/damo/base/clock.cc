// SPDX-License-Identifier: Apache-2.0
#include "damo/base/clock.h"

#include <chrono>

namespace damo {
namespace {

class SystemClock final : public Clock {
 public:
  int64_t NowMillis() const override {
    const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::milliseconds>(since_epoch).count();
  }
};

}  // namespace

const Clock* Clock::System() {
  static const Clock* const clock = new SystemClock;  // leaked: usable until the process ends
  return clock;
}

}  // namespace damo
