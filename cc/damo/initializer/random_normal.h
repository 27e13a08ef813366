// SPDX-License-Identifier: Apache-2.0
//
// random_normal: mean + stddev * q(u), q the normal quantile function, u the element's random word in (0, 1);
// computed in double, rounded to float32.
//
// Parameters: mean    0
//             stddev  1  >= 0
#ifndef DAMO_INITIALIZER_RANDOM_NORMAL_H_
#define DAMO_INITIALIZER_RANDOM_NORMAL_H_

#include <memory>

#include "damo/initializer/initializer.h"

namespace damo {

StatusOr<std::unique_ptr<const Initializer>> MakeRandomNormal(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_INITIALIZER_RANDOM_NORMAL_H_
