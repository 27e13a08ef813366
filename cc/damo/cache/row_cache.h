// SPDX-License-Identifier: Apache-2.0
//
// RowCache: the rows of one table that are in memory, in shards that different threads of one call may work
// on at the same time.
#ifndef DAMO_CACHE_ROW_CACHE_H_
#define DAMO_CACHE_ROW_CACHE_H_

#include <cstdint>
#include <vector>

#include "damo/base/fair_shared_mutex.h"
#include "damo/cache/cache_memory.h"
#include "damo/cache/index_memory.h"
#include "damo/cache/row_shard.h"

namespace damo {

// What a cache holds now, and has evicted since it was made.
struct RowCacheStats {
  int64_t num_rows = 0;
  int64_t num_dirty = 0;
  int64_t num_evicted = 0;
};

// The lock is the caller's to take, in the thread that calls the engine, never inside a parallel block:
// blocks wait for nothing. Shared to read rows; exclusive to change rows or slots. Under the exclusive lock
// different threads may work on different shards.
class RowCache final : public CacheMemory::Holder {
 public:
  // `memory` outlives the cache.
  RowCache(size_t row_bytes, CacheMemory* memory);
  ~RowCache() override;
  RowCache(const RowCache&) = delete;
  RowCache& operator=(const RowCache&) = delete;

  FairSharedMutex& mutex() const { return mutex_; }

  const SlotGeometry& geometry() const { return geometry_; }
  int num_shards() const { return static_cast<int>(shards_.size()); }
  RowShard& shard(int i) { return shards_[i]; }
  const RowShard& shard(int i) const { return shards_[i]; }
  int ShardOf(uint64_t hash) const { return static_cast<int>(hash >> 32 >> shard_shift_); }
  RowShard& ShardFor(uint64_t hash) { return shards_[ShardOf(hash)]; }
  const RowShard& ShardFor(uint64_t hash) const { return shards_[ShardOf(hash)]; }

  // ---- flushes, and reads of the storage beside the lock; these require the exclusive lock ----

  // Rows that a flush copies under its number are not evicted before BeginFlush() of the next one, or before
  // they are released: else a read that began before the flush ended could bring an old row in their place.
  void BeginFlush(uint8_t number) {
    ReleaseFlushed();
    active_flush_ = number;
  }
  // Releases the rows of the flush, at once or when the reads under way have ended.
  void EndFlush();
  // Releases rows that wait for reads to end. What those reads bring is then not kept.
  void ReleaseFlushed();
  // The number whose rows are not to be evicted, 0 if there is none.
  uint8_t active_flush() const { return active_flush_; }

  // Begins a read of the storage; returns what EndRead() is to be given.
  uint64_t BeginRead() {
    ++num_reads_;
    return epoch_;
  }
  // Whether rows read meanwhile are as good as new, unless the cache has them by now.
  bool EndRead(uint64_t epoch);
  // Makes every read under way useless.
  void SpoilReads() { ++epoch_; }
  // Drops clean rows, and what reads under way bring: the storage is to be asked again for all of them, or
  // for one.
  void DropCleanRows();
  void DropCleanRow(uint64_t key);
  // Drops every row, those newer than in the storage, too. No flush and no apply call is under way.
  void DropAllRows();

  // Says that the table had no rows when the cache was made.
  void set_began_empty() { began_empty_ = true; }
  // Says that the storage may have rows by now that were never here.
  void EndHoldingAllRows() { began_empty_ = false; }
  // Whether every row of the table is in the cache: then a key that is not has no row, and need not be looked
  // for in the storage.
  bool holds_all_rows() const;

  // Takes the lock.
  RowCacheStats Stats() const;

  void TryReleaseSlab() override;

 private:
  const SlotGeometry geometry_;
  CacheMemory* const memory_;
  IndexMemory index_memory_;
  uint32_t shard_shift_ = 32;  // high half of the hash >> shard_shift_ = shard
  std::vector<RowShard> shards_;
  mutable FairSharedMutex mutex_;
  bool began_empty_ = false;
  // Guarded by mutex_:
  uint8_t active_flush_ = 0;
  bool flush_ended_ = false;  // its rows wait for reads to end
  int64_t num_reads_ = 0;
  uint64_t epoch_ = 0;
  int next_release_ = 0;  // the shard that gives a slab next
};

}  // namespace damo

#endif  // DAMO_CACHE_ROW_CACHE_H_
