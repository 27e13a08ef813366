// SPDX-License-Identifier: Apache-2.0
//
// zeros and ones: every weight 0, or 1. No parameters.
#ifndef DAMO_INITIALIZER_CONSTANT_H_
#define DAMO_INITIALIZER_CONSTANT_H_

#include <memory>

#include "damo/initializer/initializer.h"

namespace damo {

StatusOr<std::unique_ptr<const Initializer>> MakeZeros(const Parameters& parameters);
StatusOr<std::unique_ptr<const Initializer>> MakeOnes(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_INITIALIZER_CONSTANT_H_
