// SPDX-License-Identifier: Apache-2.0
#include "damo/table/recovery.h"

#include <algorithm>
#include <string_view>
#include <thread>

#include "damo/base/thread_pool.h"
#include "damo/redo/apply_record.h"
#include "damo/redo/redo_log.h"

namespace damo {
namespace {

StatusOr<CachedTable*> TableOf(const ApplyRecord& record, uint64_t lsn, const CachedTables& tables) {
  const auto it = tables.find(record.header().group);
  if (it != tables.end()) return it->second;
  return DataLoss("redo record ", lsn, " is of group ", int{record.header().group},
                  ", which the manifest does not have");
}

}  // namespace

StatusOr<uint64_t> ReplayRedoLog(const std::string& redo_directory, uint64_t first_lsn,
                                 const CachedTables& tables, Storage& storage, LogFileSystem* log_files) {
  ThreadPool threads(static_cast<int>(std::max(1U, std::thread::hardware_concurrency())) - 1);
  const auto replay = [&](uint64_t lsn, std::string_view bytes) -> Status {
    DAMO_ASSIGN_OR_RETURN(const ApplyRecord record, ApplyRecord::Decode(bytes));
    DAMO_ASSIGN_OR_RETURN(CachedTable* const table, TableOf(record, lsn, tables));
    return table->Replay(storage, lsn, record, threads);
  };
  DAMO_ASSIGN_OR_RETURN(const uint64_t end_lsn, ReadRedoLog(redo_directory, first_lsn, replay, log_files));
  for (const auto& [group, table] : tables) DAMO_RETURN_IF_ERROR(table->FinishReplay());
  return end_lsn;
}

}  // namespace damo
