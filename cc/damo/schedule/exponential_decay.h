// SPDX-License-Identifier: Apache-2.0
//
// exponential_decay, as tf.compat.v1.train.exponential_decay:
//
//   base * decay_rate ^ (step / decay_steps)
//
// It goes on past decay_steps. With staircase, step / decay_steps is rounded down.
//
// Parameters: decay_steps            required, > 0
//             decay_rate             required, > 0
//             staircase       false
#ifndef DAMO_SCHEDULE_EXPONENTIAL_DECAY_H_
#define DAMO_SCHEDULE_EXPONENTIAL_DECAY_H_

#include <memory>

#include "damo/schedule/schedule.h"

namespace damo {

StatusOr<std::unique_ptr<const Schedule>> MakeExponentialDecay(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_SCHEDULE_EXPONENTIAL_DECAY_H_
