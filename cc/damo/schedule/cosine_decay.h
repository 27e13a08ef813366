// SPDX-License-Identifier: Apache-2.0
//
// cosine_decay, as tf.compat.v1.train.cosine_decay (Loshchilov, Hutter, "SGDR", ICLR 2017, without restarts):
//
//   base * ((1 - alpha) * (1 + cos(pi * step / decay_steps)) / 2 + alpha)
//
// From decay_steps on the rate stays at base * alpha; with alpha = 0 that is 0, and rows no longer move.
//
// Parameters: decay_steps     required, > 0
//             alpha        0  the last rate as a fraction of base, >= 0
#ifndef DAMO_SCHEDULE_COSINE_DECAY_H_
#define DAMO_SCHEDULE_COSINE_DECAY_H_

#include <memory>

#include "damo/schedule/schedule.h"

namespace damo {

StatusOr<std::unique_ptr<const Schedule>> MakeCosineDecay(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_SCHEDULE_COSINE_DECAY_H_
