// SPDX-License-Identifier: Apache-2.0
#include "damo/cache/row_cache.h"

#include <algorithm>
#include <mutex>

namespace damo {
namespace {

// Enough that threads share the work evenly; few enough that the slabs which a small table has just begun,
// one for each shard, waste little of the limit.
constexpr int kMaxShards = 64;
constexpr int64_t kLimitBytesPerShard = int64_t{8} << 20;

int NumShards(int64_t limit_bytes) {
  int num_shards = 1;
  while (num_shards < kMaxShards && kLimitBytesPerShard * num_shards * 2 <= limit_bytes) num_shards *= 2;
  return num_shards;
}

}  // namespace

RowCache::RowCache(size_t row_bytes, CacheMemory* memory)
    : geometry_(row_bytes), memory_(memory), index_memory_(NumShards(memory->limit_bytes())) {
  const int num_shards = NumShards(memory->limit_bytes());
  for (int n = num_shards; n > 1; n /= 2) --shard_shift_;
  shards_.reserve(num_shards);
  for (int i = 0; i < num_shards; ++i) shards_.emplace_back(geometry_, memory_, this, &index_memory_, i);
  memory_->Join(this);  // a cache that does not come to exist must not be known
}

RowCache::~RowCache() {
  shards_.clear();
  memory_->Leave(this);
}

void RowCache::EndFlush() {
  flush_ended_ = true;
  if (num_reads_ == 0) ReleaseFlushed();
}

void RowCache::ReleaseFlushed() {
  if (!flush_ended_) return;
  flush_ended_ = false;
  active_flush_ = 0;
  if (num_reads_ > 0) SpoilReads();
}

bool RowCache::EndRead(uint64_t epoch) {
  const bool good = epoch == epoch_;
  --num_reads_;
  if (num_reads_ == 0) ReleaseFlushed();
  return good;
}

void RowCache::DropCleanRows() {
  ReleaseFlushed();
  for (RowShard& shard : shards_) shard.DropCleanRows(active_flush_);
  SpoilReads();
}

void RowCache::DropAllRows() {
  for (RowShard& shard : shards_) shard.ForgetDirty();
  DropCleanRows();
}

void RowCache::DropCleanRow(uint64_t key) {
  ReleaseFlushed();
  const uint64_t hash = HashKey(key);
  ShardFor(hash).DropCleanRow(key, TagOf(hash), active_flush_);
  SpoilReads();
}

bool RowCache::holds_all_rows() const {
  return began_empty_ &&
         std::none_of(shards_.begin(), shards_.end(), [](const RowShard& shard) { return shard.lost_row(); });
}

RowCacheStats RowCache::Stats() const {
  const std::lock_guard<FairSharedMutex> lock(mutex_);  // a flush counts beside readers
  RowCacheStats stats;
  for (const RowShard& shard : shards_) {
    stats.num_rows += shard.num_rows();
    stats.num_dirty += shard.num_dirty();
    stats.num_evicted += shard.num_evicted();
  }
  return stats;
}

void RowCache::TryReleaseSlab() {
  const std::unique_lock<FairSharedMutex> lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return;
  for (int i = 0; i < num_shards(); ++i) {
    next_release_ = (next_release_ + 1) % num_shards();
    if (shards_[next_release_].ReleaseLastSlab(active_flush_)) return;
  }
}

}  // namespace damo
