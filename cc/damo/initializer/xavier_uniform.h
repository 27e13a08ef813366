// SPDX-License-Identifier: Apache-2.0
//
// xavier_uniform: Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural
// networks", AISTATS 2010: uniform on [-limit, limit), limit = sqrt(6 / (fan_in + fan_out)). A row is what
// one active input sends to dim outputs, so fan_in = 1 and fan_out = dim: the limit does not depend on how
// many rows there are. Computed in double as random_uniform, rounded to float32. No parameters.
#ifndef DAMO_INITIALIZER_XAVIER_UNIFORM_H_
#define DAMO_INITIALIZER_XAVIER_UNIFORM_H_

#include <memory>

#include "damo/initializer/initializer.h"

namespace damo {

StatusOr<std::unique_ptr<const Initializer>> MakeXavierUniform(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_INITIALIZER_XAVIER_UNIFORM_H_
