// SPDX-License-Identifier: Apache-2.0
//
// random_uniform: min + (max - min) * u, u the element's random word in [0, 1); computed in double, rounded
// to float32. (The rounding can reach max.)
//
// Parameters: min  -1
//             max   1  >= min
#ifndef DAMO_INITIALIZER_RANDOM_UNIFORM_H_
#define DAMO_INITIALIZER_RANDOM_UNIFORM_H_

#include <memory>

#include "damo/initializer/initializer.h"

namespace damo {

StatusOr<std::unique_ptr<const Initializer>> MakeRandomUniform(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_INITIALIZER_RANDOM_UNIFORM_H_
