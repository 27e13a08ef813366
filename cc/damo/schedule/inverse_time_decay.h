// SPDX-License-Identifier: Apache-2.0
//
// inverse_time_decay, as tf.compat.v1.train.inverse_time_decay:
//
//   base / (1 + decay_rate * step / decay_steps)
//
// It goes on past decay_steps. With staircase, step / decay_steps is rounded down.
//
// Parameters: decay_steps            required, > 0
//             decay_rate             required, >= 0
//             staircase       false
#ifndef DAMO_SCHEDULE_INVERSE_TIME_DECAY_H_
#define DAMO_SCHEDULE_INVERSE_TIME_DECAY_H_

#include <memory>

#include "damo/schedule/schedule.h"

namespace damo {

StatusOr<std::unique_ptr<const Schedule>> MakeInverseTimeDecay(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_SCHEDULE_INVERSE_TIME_DECAY_H_
