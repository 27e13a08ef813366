// SPDX-License-Identifier: Apache-2.0
#include "damo/dump/row_filter.h"

#include <cmath>

namespace damo {
namespace {

constexpr double kMillisPerDay = 24.0 * 60 * 60 * 1000;

}  // namespace

Status RowFilter::Validate() const {
  if (min_count < 0) return InvalidArgument("`min_count` must be >= 0. Received: min_count=", min_count);
  if (expire_days && !(*expire_days >= 0 && std::isfinite(*expire_days))) {
    return InvalidArgument("`expire_days` must be a finite number >= 0. Received: expire_days=",
                           *expire_days);
  }
  return Status();
}

namespace internal {

RowSieve::RowSieve(const GroupRecipe& recipe, int64_t now_millis, const RowFilter& filter)
    : min_count_(filter.min_count),
      now_millis_(now_millis),
      max_age_millis_(filter.expire_days.value_or(INFINITY) * kMillisPerDay),
      lifetime_(recipe.lifetime) {}

}  // namespace internal
}  // namespace damo
