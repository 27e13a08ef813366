// SPDX-License-Identifier: Apache-2.0
//
// Which rows leave a store: VisitRows() goes through those of a group that a filter lets pass.
#ifndef DAMO_DUMP_ROW_FILTER_H_
#define DAMO_DUMP_ROW_FILTER_H_

#include <cstdint>
#include <functional>
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

// Called with a row in its stored form; the bytes are valid during the call only.
using FilteredRowVisitor = std::function<Status(const RowHeader& header, std::string_view row)>;

// Visits, in key order, the rows of a group that `filter` lets pass and that were not past their time to live
// at the moment of `snapshot`, one of whose groups it is. Fails at a row that is damaged.
Status VisitRows(const StoreSnapshot& snapshot, int group, const RowFilter& filter,
                 const FilteredRowVisitor& visit);

}  // namespace damo

#endif  // DAMO_DUMP_ROW_FILTER_H_
