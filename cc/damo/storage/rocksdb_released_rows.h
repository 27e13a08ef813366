// SPDX-License-Identifier: Apache-2.0
//
// ReleasedRows: what Storage::ReleaseRows() has released, as a compaction filter of RocksDB.
#ifndef DAMO_STORAGE_ROCKSDB_RELEASED_ROWS_H_
#define DAMO_STORAGE_ROCKSDB_RELEASED_ROWS_H_

#include <rocksdb/compaction_filter.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

namespace damo {

// Thread-safe: RocksDB's threads ask while rows are released.
class ReleasedRows {
 public:
  ReleasedRows();

  void Release(uint8_t group, int64_t update_time);
  // Nothing is released any more.
  void Clear();

  // Whether a row, as RocksDB holds it, has been released. What cannot be a row has not: it stays, so that
  // whoever reads it is told of the damage.
  bool Contains(std::string_view key, std::string_view row) const;

 private:
  static constexpr int64_t kNone = -1;

  std::array<std::atomic<int64_t>, 256> last_;  // by group: the latest update time released
};

// Compactions drop what `released` contains. A version of a row that is dropped hides those before it as a
// deletion does: RocksDB keeps a tombstone in its place wherever a lower level may have one.
std::shared_ptr<rocksdb::CompactionFilterFactory> NewReleasedRowsFilter(
    std::shared_ptr<const ReleasedRows> released);

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_RELEASED_ROWS_H_
