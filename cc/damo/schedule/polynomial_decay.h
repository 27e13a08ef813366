// SPDX-License-Identifier: Apache-2.0
//
// polynomial_decay, as tf.compat.v1.train.polynomial_decay:
//
//   (base - end_learning_rate) * (1 - step / decay_steps) ^ power + end_learning_rate
//
// From decay_steps on the rate stays at end_learning_rate. With cycle it starts anew instead, falling over
// the first multiple of decay_steps that is >= step and > 0 (so at a multiple itself it is end_learning_rate,
// and at step 0 it is base).
//
// Parameters: decay_steps               required, > 0
//             end_learning_rate  1e-4   >= 0
//             power              1      >= 0; with 0 the rate is base throughout
//             cycle              false
#ifndef DAMO_SCHEDULE_POLYNOMIAL_DECAY_H_
#define DAMO_SCHEDULE_POLYNOMIAL_DECAY_H_

#include <memory>

#include "damo/schedule/schedule.h"

namespace damo {

StatusOr<std::unique_ptr<const Schedule>> MakePolynomialDecay(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_SCHEDULE_POLYNOMIAL_DECAY_H_
