// SPDX-License-Identifier: Apache-2.0
//
// truncate_normal: as random_normal, but an element more than 2 stddev from the mean is drawn again, by
// itself, from its word of the next attempt.
//
// Parameters: mean    0
//             stddev  1  >= 0
#ifndef DAMO_INITIALIZER_TRUNCATE_NORMAL_H_
#define DAMO_INITIALIZER_TRUNCATE_NORMAL_H_

#include <memory>

#include "damo/initializer/initializer.h"

namespace damo {

StatusOr<std::unique_ptr<const Initializer>> MakeTruncateNormal(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_INITIALIZER_TRUNCATE_NORMAL_H_
