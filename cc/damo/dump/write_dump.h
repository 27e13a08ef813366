// SPDX-License-Identifier: Apache-2.0
//
// WriteDump: the weights of a store as one file, for serving. docs/dump_format.md.
#ifndef DAMO_DUMP_WRITE_DUMP_H_
#define DAMO_DUMP_WRITE_DUMP_H_

#include <cstdint>
#include <optional>
#include <string>

#include "damo/base/status.h"
#include "damo/dump/row_filter.h"
#include "damo/table/row_progress.h"
#include "damo/table/store.h"

namespace damo {

// Writes the weights of every row that `filter` lets pass, of one group or of all, as of one moment, to
// `path`; a file that is there is replaced when the new one is complete and survives loss of power. Memory
// use does not depend on the size of the store; training goes on. Returns the number of rows written.
// InvalidArgument if `path` is empty or lies inside the store's directory. `progress` is told the rows that
// have been written, of all that the groups have.
StatusOr<int64_t> WriteDump(const Store& store, const std::string& path, std::optional<int64_t> group,
                            const RowFilter& filter, const RowProgress& progress = nullptr);

}  // namespace damo

#endif  // DAMO_DUMP_WRITE_DUMP_H_
