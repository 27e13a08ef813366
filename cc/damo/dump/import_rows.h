// SPDX-License-Identifier: Apache-2.0
//
// ImportRows: puts rows from elsewhere into a store.
#ifndef DAMO_DUMP_IMPORT_ROWS_H_
#define DAMO_DUMP_IMPORT_ROWS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "damo/base/span.h"
#include "damo/base/status.h"
#include "damo/dump/row_source.h"
#include "damo/row/row_codec.h"
#include "damo/table/store.h"

namespace damo {

enum class ImportMode {
  kMerge,    // "merge": rows of keys that are not imported stay
  kReplace,  // "replace": afterwards the groups have the imported rows and no others
};

// InvalidArgument unless `name` is one of the words above.
StatusOr<ImportMode> ParseImportMode(std::string_view name);

// Gives `groups`, in ascending order, the rows of `source`, which are of no other groups. The row of a key
// that has one is replaced as a whole. All of it becomes visible, and survives loss of power, in one step; on
// failure nothing changes, unless the disk failed as the step was recorded: then all of it may be there, as
// Store::EditGroup() says. Two rows of one key are InvalidArgument. Apply calls wait meanwhile. Memory use
// does not depend on the number of rows. Returns that number.
StatusOr<int64_t> ImportRows(Store& store, const std::vector<int64_t>& groups, ImportMode mode,
                             RowSource& source);

// The stored form of a row that begins with weights from elsewhere: as after its first update, but with slots
// of a new row.
class FreshRow {
 public:
  FreshRow(const RowLayout& layout, int64_t update_time)
      : layout_(layout), update_time_(update_time), bytes_(layout.row_bytes(), '\0') {}

  // `weights` are the bytes of dim floats, aligned or not. Valid until the next call.
  std::string_view Make(uint8_t group, uint64_t key, std::string_view weights);

 private:
  const RowLayout layout_;
  const int64_t update_time_;
  std::string bytes_;
};

// InvalidArgument naming key and value unless all floats in `bytes`, aligned or not, are finite. `what` they
// are is for the message.
Status CheckFinite(std::string_view what, uint64_t key, std::string_view bytes);

}  // namespace damo

#endif  // DAMO_DUMP_IMPORT_ROWS_H_
