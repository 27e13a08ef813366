// SPDX-License-Identifier: Apache-2.0
//
// Which rows leave a store: VisitRows() goes through those of a group that a filter lets pass.
#ifndef DAMO_DUMP_ROW_FILTER_H_
#define DAMO_DUMP_ROW_FILTER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "damo/base/status.h"
#include "damo/row/row_codec.h"
#include "damo/table/store_snapshot.h"

namespace damo {

struct RowFilter {
  int64_t min_count = 0;              // rows with a smaller update_num are left out; >= 0
  std::optional<double> expire_days;  // rows not updated for longer are left out; >= 0. nullopt: none is

  // InvalidArgument naming the member that breaks its rule.
  Status Validate() const;
};

namespace internal {

// Whether rows of a group leave its store.
class RowSieve {
 public:
  RowSieve(const GroupRecipe& recipe, int64_t now_millis, const RowFilter& filter);

  bool Passes(const RowHeader& header) const {
    return header.update_num >= min_count_ && !lifetime_.Expired(header.update_time, now_millis_) &&
           static_cast<double>(now_millis_ - header.update_time) <= max_age_millis_;
  }

 private:
  const int64_t min_count_;
  const int64_t now_millis_;
  const double max_age_millis_;
  const TimeToLive lifetime_;
};

}  // namespace internal

// Calls visit(header, row), which returns a Status, with the rows of a group that `filter` lets pass and that
// were not past their time to live at the moment of `snapshot`, one of whose groups it is: in key order, in
// their stored form, whose bytes are valid during the call only. Fails at a row that is damaged.
//
// A template: there are millions of rows a second, and each call through a pointer shows.
template <typename Visit>
Status VisitRows(const StoreSnapshot& snapshot, int group, const RowFilter& filter, const Visit& visit) {
  const GroupRecipe& recipe = *snapshot.groups().at(group).recipe;
  const internal::RowSieve sieve(recipe, snapshot.now_millis(), filter);
  const auto number = static_cast<uint8_t>(group);
  const std::unique_ptr<RowCursor> cursor = snapshot.stored().NewCursor(number);
  while (cursor->Next()) {
    const std::string_view row = cursor->row();
    DAMO_ASSIGN_OR_RETURN(const RowHeader header, DecodeRowHeader(row, recipe.layout, number, cursor->key()));
    if (sieve.Passes(header)) DAMO_RETURN_IF_ERROR(visit(header, row));
  }
  return cursor->status();
}

}  // namespace damo

#endif  // DAMO_DUMP_ROW_FILTER_H_
