// SPDX-License-Identifier: Apache-2.0
#include "damo/config/filter_options.h"

namespace damo {

Status FilterOptions::Validate() const {
  if (capacity < 1 || capacity > kMaxCapacity) {
    return InvalidArgument("`filter_capacity` must be in [1, ", kMaxCapacity,
                           "]. Received: filter_capacity=", capacity);
  }
  if (!(fpr >= kMinFpr && fpr <= kMaxFpr)) {
    return InvalidArgument("`filter_fpr` must be in [", kMinFpr, ", ", kMaxFpr,
                           "]. Received: filter_fpr=", fpr);
  }
  return Status();
}

}  // namespace damo
