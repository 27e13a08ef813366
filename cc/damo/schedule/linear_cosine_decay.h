// SPDX-License-Identifier: Apache-2.0
//
// liner_cosine_decay, also called linear_cosine_decay, as tf.compat.v1.train.linear_cosine_decay (Bello et
// al., "Neural optimizer search with reinforcement learning", ICML 2017):
//
//   linear = (decay_steps - step) / decay_steps
//   cosine = (1 + cos(2 * pi * num_periods * step / decay_steps)) / 2
//   base * ((alpha + linear) * cosine + beta)
//
// From decay_steps on step counts as decay_steps. With num_periods = 0 the cosine is 1 throughout and the
// rate falls linearly. parameters() has the name liner_cosine_decay, whichever was given.
//
// Parameters: decay_steps         required, > 0
//             num_periods  0.5    >= 0
//             alpha        0      >= 0
//             beta         0.001  >= 0
#ifndef DAMO_SCHEDULE_LINEAR_COSINE_DECAY_H_
#define DAMO_SCHEDULE_LINEAR_COSINE_DECAY_H_

#include <memory>

#include "damo/schedule/schedule.h"

namespace damo {

StatusOr<std::unique_ptr<const Schedule>> MakeLinearCosineDecay(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_SCHEDULE_LINEAR_COSINE_DECAY_H_
