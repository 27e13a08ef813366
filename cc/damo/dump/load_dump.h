// SPDX-License-Identifier: Apache-2.0
//
// LoadDump: brings a dump into a store.
#ifndef DAMO_DUMP_LOAD_DUMP_H_
#define DAMO_DUMP_LOAD_DUMP_H_

#include <cstdint>
#include <string>

#include "damo/base/status.h"
#include "damo/dump/import_rows.h"
#include "damo/table/row_progress.h"
#include "damo/table/store.h"

namespace damo {

// Gives the groups of the file its rows: its weights, slots of a new row, update_num 1, updated now. With
// kReplace, groups that the file has and the store has lose all other rows. The whole file is checked before
// the store is touched: header, sizes, groups, finite weights; each of its groups that has rows must exist,
// with the same dim. Records may come in any order: other than that of WriteDump() costs a sort on disk.
// Otherwise as ImportRows(). `progress` is told the rows that have been brought in; while the file is checked
// none have.
StatusOr<int64_t> LoadDump(Store& store, const std::string& path, ImportMode mode,
                           const RowProgress& progress = nullptr);

}  // namespace damo

#endif  // DAMO_DUMP_LOAD_DUMP_H_
