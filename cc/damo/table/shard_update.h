// SPDX-License-Identifier: Apache-2.0
//
// ShardUpdate: the part of an apply call that falls to one shard of the row cache. It deduplicates keys, sums
// gradients and later takes the optimizer's steps. The sums lie in memory as the rows of a redo record do, so
// that the log is written from there.
#ifndef DAMO_TABLE_SHARD_UPDATE_H_
#define DAMO_TABLE_SHARD_UPDATE_H_

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "damo/base/span.h"
#include "damo/cache/row_cache.h"
#include "damo/redo/apply_record.h"
#include "damo/table/gradient_rows.h"
#include "damo/table/group_filter.h"
#include "damo/table/group_recipe.h"
#include "damo/table/key_partition.h"
#include "damo/table/store_session.h"

namespace damo {

// What a redo record says of the next update of a row that has had `update_num`, the last at `update_time`:
// an expired row begins anew, one that has had none is absent.
uint64_t NextUpdateNumber(int64_t update_num, int64_t update_time, const TimeToLive& lifetime,
                          int64_t now_millis);

// Whether such a number is of a key that has no row, not counting an expired one.
inline bool BeginsRow(uint64_t number) { return (number & ~kAbsentRowFlag) == 1; }

// Reusable: keeps its memory from call to call. Thread-compatible.
class ShardUpdate {
 public:
  struct Context {
    const GroupRecipe& recipe;
    const StoreSession& session;
    uint8_t group;
    int64_t now_millis;
    double learning_rate;
  };
  // What became of the rows.
  struct Result {
    int64_t num_updated = 0;
    int64_t num_inserted = 0;
    int64_t num_skipped = 0;
    int64_t num_blocked = 0;
    int64_t num_expired = 0;
    int64_t num_newly_dirty = 0;
  };

  // Finds or allocates a slot for each distinct key of `occurrences`, marks it, and sums the gradients in
  // order of occurrence; keys whose sum is not finite are given up again and counted. False if the shard has
  // no room for all of them: call Abandon() then. Requires the cache's exclusive lock, as do Abandon() and
  // Apply(), and a ScopedFloatEnvironment.
  bool Gather(RowShard& shard, uint8_t active_flush, Span<const KeyPartition::Occurrence> occurrences,
              const GradientRows& gradients, const Context& context);

  int64_t num_rows() const { return num_rows_; }
  // Indices, of the rows below, of those that must be loaded from the storage.
  Span<const uint32_t> missing() const { return missing_; }
  uint64_t key(uint32_t i) const { return LoadLittleEndian<uint64_t>(Part(i)); }
  uint32_t slot(uint32_t i) const { return slots_[i]; }
  // What the redo record holds of these rows, once every missing one has been loaded.
  std::string_view record_rows() const { return {parts_.get(), num_rows_ * part_bytes_}; }

  // Says what the storage has of a missing row: the count of updates and their last time, 0 of an absent row.
  // Its floats, initial ones if it is absent, are in the slot already. Needs no lock: different rows may be
  // set by different threads.
  void SetLoaded(uint32_t i, int64_t update_num, int64_t update_time, const Context& context);

  // Once every missing row has been loaded: counts the occurrences of keys without row, and gives those up
  // which `filter` together with this call has seen fewer than recipe.config.min_count times. Requires the
  // cache's exclusive lock. `occurrences` are those of Gather().
  void Admit(RowShard& shard, Span<const KeyPartition::Occurrence> occurrences, const GroupFilter& filter,
             const Context& context);
  // The keys that Admit() has counted, given up or not.
  Span<const CountedKey> counted() const { return counted_; }

  // For replay: takes the numbers of the updates from a record instead. Rows whose update is in the cached
  // row already are left alone by Apply(). Appends to `gaps` keys whose row lacks updates before this one,
  // and to `born` those that begin with it. Requires the cache's exclusive lock.
  void SetRecorded(RowShard& shard, Span<const uint64_t> numbers_by_position, std::vector<uint64_t>* gaps,
                   std::vector<uint64_t>* born);

  // Takes the optimizer's step on every row. In a ScopedFloatEnvironment, as Gather(). Allocates nothing.
  void Apply(RowShard& shard, const Context& context);
  // Takes everything back: marks, and slots of rows that had to be loaded.
  void Abandon(RowShard& shard);

  const Result& result() const { return result_; }

  int64_t memory_bytes() const {
    return static_cast<int64_t>(
        part_capacity_ * (part_bytes_ + 2 * sizeof(uint32_t)) + missing_.capacity() * sizeof(uint32_t) +
        counted_.capacity() * sizeof(CountedKey) + before_.capacity() * sizeof(float));
  }

 private:
  static constexpr uint32_t kNoRow = UINT32_MAX;

  char* Part(uint32_t i) const { return parts_.get() + i * part_bytes_; }
  float* SumOf(uint32_t i) const { return reinterpret_cast<float*>(Part(i) + kApplyRowPrefixBytes); }
  void SetNumber(uint32_t i, uint64_t number) { StoreLittleEndian(number, Part(i) + sizeof(uint64_t)); }
  uint64_t Number(uint32_t i) const { return LoadLittleEndian<uint64_t>(Part(i) + sizeof(uint64_t)); }
  void Reset(size_t num_occurrences, size_t dim);
  uint32_t Place(RowShard& shard, uint8_t active_flush, const KeyPartition::Occurrence& occurrence,
                 uint32_t candidate, const Context& context);
  void GiveUpNonFinite(RowShard& shard, size_t dim);
  template <typename Keep>
  void KeepRows(RowShard& shard, uint32_t num_kept, const Keep& keep);
  void ApplyRow(RowShard& shard, uint32_t i, const Context& context);

  size_t part_bytes_ = 0;
  size_t part_capacity_ = 0;
  uint32_t num_rows_ = 0;
  // Of each row, part_capacity_ long:
  std::unique_ptr<char[]> parts_;                // key, number of the update, sum: as in ApplyRecord
  std::unique_ptr<uint32_t[]> slots_;            // where it is in the cache
  std::unique_ptr<uint32_t[]> first_positions_;  // where its key occurs first in the call
  std::vector<uint32_t> missing_;
  std::vector<CountedKey> counted_;
  std::vector<float> before_;  // a row's floats before its step
  Result result_;
};

}  // namespace damo

#endif  // DAMO_TABLE_SHARD_UPDATE_H_
