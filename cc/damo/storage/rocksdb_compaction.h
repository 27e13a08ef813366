// SPDX-License-Identifier: Apache-2.0
//
// CompactGroups: a compaction that somebody waits for.
#ifndef DAMO_STORAGE_ROCKSDB_COMPACTION_H_
#define DAMO_STORAGE_ROCKSDB_COMPACTION_H_

#include <cstdint>

#include "damo/base/span.h"
#include "damo/base/status.h"
#include "damo/storage/rocksdb_database.h"
#include "damo/storage/storage.h"

namespace damo {

// See Storage::Compact(). `progress` is called by this thread, with the bytes written, of those that the
// files have at first: what is deleted is not written.
Status CompactGroups(const RocksDbDatabase& database, Span<const uint8_t> groups,
                     const ByteProgress& progress);

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_COMPACTION_H_
