// SPDX-License-Identifier: Apache-2.0
//
// How far a decay that never ends has come: shared by exponential, natural exponential and inverse time
// decay.
#ifndef DAMO_SCHEDULE_DECAY_PERIODS_H_
#define DAMO_SCHEDULE_DECAY_PERIODS_H_

#include <cmath>
#include <cstdint>

#include "damo/config/parameters.h"

namespace damo {

// step / decay_steps, rounded down with staircase.
class DecayPeriods {
 public:
  explicit DecayPeriods(ParameterReader& reader)
      : decay_steps_(reader.RequiredNumber("decay_steps", rule::kPositive)),
        staircase_(reader.Bool("staircase", false)) {}

  double At(int64_t global_step) const {
    const double periods = static_cast<double>(global_step) / decay_steps_;
    return staircase_ ? std::floor(periods) : periods;
  }

 private:
  double decay_steps_;
  bool staircase_;
};

}  // namespace damo

#endif  // DAMO_SCHEDULE_DECAY_PERIODS_H_
