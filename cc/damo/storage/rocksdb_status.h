// SPDX-License-Identifier: Apache-2.0
//
// Between RocksDB's types and ours: failures and bytes.
#ifndef DAMO_STORAGE_ROCKSDB_STATUS_H_
#define DAMO_STORAGE_ROCKSDB_STATUS_H_

#include <rocksdb/slice.h>
#include <rocksdb/status.h>

#include <string_view>

#include "damo/base/status.h"

namespace damo {

inline rocksdb::Slice ToSlice(std::string_view bytes) { return rocksdb::Slice(bytes.data(), bytes.size()); }
inline std::string_view ToView(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

inline StatusCode CodeOf(const rocksdb::Status& status) {
  if (status.IsCorruption()) return StatusCode::kDataLoss;
  if (status.IsIOError()) return StatusCode::kIoError;
  return StatusCode::kInternal;
}

// The only way a RocksDB failure becomes ours. `action` says what was done to what; it is put together on
// failure only. Callers for whom absence is an answer ask IsNotFound() before.
template <typename... Parts>
Status ToStatus(const rocksdb::Status& status, const Parts&... action) {
  if (status.ok()) return Status();
  return Status(CodeOf(status), StrCat(action..., ": ", status.ToString()));
}

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_STATUS_H_
