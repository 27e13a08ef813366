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

Status VisitRows(const StoreSnapshot& snapshot, int group, const RowFilter& filter,
                 const FilteredRowVisitor& visit) {
  const GroupRecipe& recipe = *snapshot.groups().at(group).recipe;
  const auto number = static_cast<uint8_t>(group);
  const int64_t now_millis = snapshot.now_millis();
  const double max_age_millis = filter.expire_days.value_or(INFINITY) * kMillisPerDay;
  return snapshot.Scan(group, [&](uint64_t key, std::string_view row) -> Status {
    DAMO_ASSIGN_OR_RETURN(const RowHeader header, DecodeRowHeader(row, recipe.layout, number, key));
    if (header.update_num < filter.min_count) return Status();
    if (static_cast<double>(now_millis - header.update_time) > max_age_millis) return Status();
    if (recipe.lifetime.Expired(header.update_time, now_millis)) return Status();
    return visit(header, row);
  });
}

}  // namespace damo
