// SPDX-License-Identifier: Apache-2.0
//
// Recovery: brings what an earlier process has logged, and not brought into the storage, into the tables.
#ifndef DAMO_TABLE_RECOVERY_H_
#define DAMO_TABLE_RECOVERY_H_

#include <cstdint>
#include <map>
#include <string>

#include "damo/base/status.h"
#include "damo/redo/log_file_system.h"
#include "damo/storage/storage.h"
#include "damo/table/cached_table.h"

namespace damo {

// By group.
using CachedTables = std::map<int, CachedTable*>;

// Replays the records in `redo_directory` from `first_lsn` on, those that are in the rows already left out,
// and returns the LSN that follows the last one: `first_lsn` if there are none. Works on as many threads as
// the machine has cores. DataLoss if the log is damaged or does not fit the tables. `log_files` is as for
// ReadRedoLog().
StatusOr<uint64_t> ReplayRedoLog(const std::string& redo_directory, uint64_t first_lsn,
                                 const CachedTables& tables, Storage& storage,
                                 LogFileSystem* log_files = nullptr);

}  // namespace damo

#endif  // DAMO_TABLE_RECOVERY_H_
