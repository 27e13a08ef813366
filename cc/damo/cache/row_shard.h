// SPDX-License-Identifier: Apache-2.0
//
// RowShard: one part of a row cache: rows in slots of equal size, and an index from key to slot. A key's
// shard and its place in the index come from one hash.
#ifndef DAMO_CACHE_ROW_SHARD_H_
#define DAMO_CACHE_ROW_SHARD_H_

#include <cstdint>
#include <vector>

#include "damo/base/span.h"
#include "damo/cache/cache_memory.h"
#include "damo/cache/cached_row.h"
#include "damo/cache/slot_index.h"

namespace damo {

// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection whose every bit depends on every bit of
// the key. Lives in memory only: it may change with any release.
inline uint64_t HashKey(uint64_t key) {
  key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9ULL;
  key = (key ^ (key >> 27)) * 0x94d049bb133111ebULL;
  return key ^ (key >> 31);
}

// The half of a hash by which a shard finds a key; the other half chooses the shard.
inline uint32_t TagOf(uint64_t hash) {
  const auto tag = static_cast<uint32_t>(hash);
  return tag == SlotIndex::kFreeTag ? ~tag : tag;
}

// How the slots of a cache lie in slabs.
struct SlotGeometry {
  explicit SlotGeometry(size_t row_bytes);

  size_t stride;        // bytes from row to row
  uint32_t slot_shift;  // slot = slab << slot_shift | row in slab
  uint32_t row_mask;    // (1 << slot_shift) - 1
  size_t slab_bytes;
  uint32_t rows_per_slab;
};

// Thread-compatible: many readers, or one writer. RowCache's lock is the caller's to hold. What readers need
// of it is in its first cache line.
class alignas(64) RowShard {
 public:
  static constexpr uint32_t kNoSlot = SlotIndex::kNoSlot;

  struct DirtyRow {
    uint64_t key;
    uint32_t slot;
  };

  // `memory` and `index_memory` outlive the shard, which is the `number`-th of those that share the latter.
  RowShard(const SlotGeometry& geometry, CacheMemory* memory, CacheMemory::Holder* holder,
           IndexMemory* index_memory, int number);
  ~RowShard();
  RowShard(RowShard&& other) noexcept;
  RowShard& operator=(RowShard&&) = delete;

  // ---- for readers ----

  CachedRow* row(uint32_t slot) const {
    return reinterpret_cast<CachedRow*>(slabs_[slot >> geometry_.slot_shift] +
                                        (slot & geometry_.row_mask) * geometry_.stride);
  }
  void PrefetchIndex(uint32_t tag) const { index_.Prefetch(tag); }
  // The slot of a row with this tag, kNoSlot if there is none. Reads the index only: the row there may have
  // another key.
  uint32_t Candidate(uint32_t tag) const { return index_.Candidate(tag); }
  // The slot of `key`, loading or ready; kNoSlot if it has none.
  uint32_t Find(uint64_t key, uint32_t tag) const {
    return index_.Find(tag, [&](uint32_t slot) { return row(slot)->key == key; });
  }

  int64_t num_rows() const { return num_indexed_; }  // in the index
  int64_t num_dirty() const { return num_dirty_; }   // newer than in the storage
  // Whether a row that the storage has, or will have, has left the shard.
  bool lost_row() const { return lost_row_; }
  // Those that have become dirty since TakeDirtyRows().
  Span<const DirtyRow> dirty_rows() const { return dirty_rows_; }
  int64_t num_evicted() const { return num_evicted_; }  // since the cache was made
  // Slots that were looked at for one to be evicted, since the cache was made.
  int64_t num_searched() const { return num_searched_; }

  // ---- for the writer ----

  // A slot for `key`, in state kLoading and not yet in the index; all its other fields are cleared. Takes a
  // free one, or new memory, or the place of a row that is ready, clean, not marked, not of the flush under
  // way (`active_flush`), and longest not referenced. kNoSlot if there is no such row. What is done with the
  // slot afterwards allocates nothing.
  uint32_t Allocate(uint64_t key, uint8_t active_flush);
  // As Allocate(), for a row that is read ahead of need: such rows may take up a quarter of the slots, so
  // that apply calls always find some. Where so many slots in a row must stay that the search is not worth
  // the read it spares, kNoSlot.
  uint32_t AllocateToRead(uint64_t key, uint8_t active_flush);
  // Makes a row in the index, that was loading, ready.
  void Publish(uint32_t slot) {
    row(slot)->state = SlotState::kReady;
    --num_loading_;
  }
  // Puts an allocated slot into the index, which has no entry for its key.
  void AddToIndex(uint32_t slot, uint32_t tag);
  // Frees a slot, in the index or not.
  void Free(uint32_t slot);
  // Sees to it that the next `num_rows` calls of SetDirty() allocate nothing.
  void ReserveDirty(size_t num_rows);
  // Notes that a row has become newer than in the storage. False if it was already.
  bool SetDirty(uint32_t slot) {
    CachedRow* const cached = row(slot);
    if (cached->dirty != 0) return false;
    cached->dirty = 1;
    ++num_dirty_;
    dirty_rows_.push_back({cached->key, slot});
    return true;
  }
  // Appends the list of rows that have become dirty since the last time to `rows`, which has room for it.
  // There stays room for all of them to come back.
  void TakeDirtyRows(std::vector<DirtyRow>* rows);
  // Takes one back that has not been copied.
  void ReturnDirtyRow(const DirtyRow& row) { dirty_rows_.push_back(row); }
  // A flush has copied the row. Beside readers: no reader looks at these fields.
  void SetCopied(uint32_t slot, uint8_t flush_number) {
    CachedRow* const cached = row(slot);
    cached->dirty = 0;
    cached->flush_number = flush_number;
    --num_dirty_;
  }
  // Takes every row for one that the storage has.
  void ForgetDirty();
  // Frees every row that is ready and clean.
  void DropCleanRows(uint8_t active_flush);
  // Frees the row of `key` if it is ready and clean.
  void DropCleanRow(uint64_t key, uint32_t tag, uint8_t active_flush) {
    const uint32_t slot = Find(key, tag);
    if (slot != kNoSlot && Evictable(*row(slot), active_flush)) Free(slot);
  }
  // Gives the last slab back unless one of its rows must stay, or it is the only one.
  bool ReleaseLastSlab(uint8_t active_flush);

 private:
  static bool Evictable(const CachedRow& cached, uint8_t active_flush) {
    return cached.state == SlotState::kReady && cached.dirty == 0 && cached.mark == 0 &&
           (cached.flush_number == 0 || cached.flush_number != active_flush);
  }
  uint32_t NextSlot(uint32_t slot) const;
  bool AddSlab();
  uint32_t Evict(uint8_t active_flush, uint64_t max_stuck);
  uint32_t Allocate(uint64_t key, uint8_t active_flush, uint64_t max_stuck);
  // Notes that a row is about to leave.
  void NoteLeaving(const CachedRow& cached) {
    if (cached.state == SlotState::kReady && cached.update_num > 0) lost_row_ = true;
  }
  void AddFree(uint32_t slot);
  bool RemoveFromIndex(uint32_t slot);
  void GrowIndex();

  static_assert(sizeof(SlotIndex) + sizeof(SlotGeometry) + sizeof(char**) <= 64, "readers need one line");
  SlotIndex index_;
  const SlotGeometry geometry_;
  std::vector<char*> slabs_;
  CacheMemory* const memory_;
  CacheMemory::Holder* const holder_;
  int64_t index_bytes_ = 0;        // charged
  uint32_t first_free_ = kNoSlot;  // the key of a free row is the next one
  std::vector<DirtyRow> dirty_rows_;
  size_t num_taken_ = 0;  // by the last TakeDirtyRows()
  uint32_t hand_ = 0;     // of the clock: the slot it looks at next
  int64_t num_indexed_ = 0;
  int64_t num_unindexed_ = 0;  // allocated
  int64_t num_dirty_ = 0;
  int64_t num_loading_ = 0;
  int64_t num_evicted_ = 0;
  int64_t num_searched_ = 0;
  bool lost_row_ = false;
};

}  // namespace damo

#endif  // DAMO_CACHE_ROW_SHARD_H_
