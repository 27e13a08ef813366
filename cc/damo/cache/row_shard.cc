// SPDX-License-Identifier: Apache-2.0
#include "damo/cache/row_shard.h"

#include <algorithm>
#include <new>
#include <utility>

#include "damo/base/reserve_more.h"

namespace damo {
namespace {

// Floats of a row are read by vector instructions: rows begin at multiples of half a cache line.
constexpr size_t kRowAlignment = 32;
// Slots one after the other that cannot be evicted, after which a row that is read ahead gets none.
constexpr uint64_t kMaxStuckForReads = 1024;

size_t RoundUp(size_t value, size_t step) { return (value + step - 1) / step * step; }

}  // namespace

SlotGeometry::SlotGeometry(size_t row_bytes) : stride(RoundUp(row_bytes, kRowAlignment)) {
  const size_t whole_rows = std::max<size_t>(1, CacheMemory::kSlabBytes / stride);
  rows_per_slab = static_cast<uint32_t>(whole_rows);
  slab_bytes = whole_rows >= 8 ? CacheMemory::kSlabBytes : whole_rows * stride;
  slot_shift = 0;
  while ((uint32_t{1} << slot_shift) < rows_per_slab) ++slot_shift;
  row_mask = (uint32_t{1} << slot_shift) - 1;
}

RowShard::RowShard(const SlotGeometry& geometry, CacheMemory* memory, CacheMemory::Holder* holder,
                   IndexMemory* index_memory, int number)
    : index_(index_memory, number), geometry_(geometry), memory_(memory), holder_(holder) {
  memory_->Charge(holder_, index_.memory_bytes());
  index_bytes_ = index_.memory_bytes();
}

RowShard::RowShard(RowShard&& other) noexcept
    : index_(std::move(other.index_)),
      geometry_(other.geometry_),
      slabs_(std::move(other.slabs_)),
      memory_(other.memory_),
      holder_(other.holder_),
      index_bytes_(std::exchange(other.index_bytes_, 0)),
      first_free_(other.first_free_),
      dirty_rows_(std::move(other.dirty_rows_)),
      num_taken_(other.num_taken_),
      hand_(other.hand_),
      num_indexed_(other.num_indexed_),
      num_unindexed_(other.num_unindexed_),
      num_dirty_(other.num_dirty_),
      num_loading_(other.num_loading_),
      num_evicted_(other.num_evicted_),
      num_searched_(other.num_searched_),
      lost_row_(other.lost_row_) {
  other.slabs_.clear();
}

RowShard::~RowShard() {
  for (char* const slab : slabs_) memory_->ReleaseSlab(holder_, slab, geometry_.slab_bytes);
  memory_->Charge(holder_, -index_bytes_);
}

uint32_t RowShard::Allocate(uint64_t key, uint8_t active_flush) {
  return Allocate(key, active_flush, /*max_stuck=*/UINT64_MAX);
}

uint32_t RowShard::Allocate(uint64_t key, uint8_t active_flush, uint64_t max_stuck) {
  uint32_t slot = kNoSlot;
  if (first_free_ == kNoSlot && !AddSlab()) {
    slot = Evict(active_flush, max_stuck);  // leaves room in the index
    if (slot == kNoSlot) return kNoSlot;
  } else {
    if (static_cast<size_t>(num_indexed_ + num_unindexed_) >= index_.capacity()) GrowIndex();
    slot = first_free_;
    first_free_ = static_cast<uint32_t>(row(slot)->key);
  }
  new (row(slot)) CachedRow{0, SlotState::kLoading, 0, 0, 0, key, 0, 0};
  ++num_loading_;
  ++num_unindexed_;
  return slot;
}

uint32_t RowShard::AllocateToRead(uint64_t key, uint8_t active_flush) {
  const auto num_slots = static_cast<int64_t>(slabs_.size() * geometry_.rows_per_slab);
  // A shard that may still grow is not short of slots.
  if ((num_loading_ + 1) * 4 > num_slots && !AddSlab()) return kNoSlot;
  return Allocate(key, active_flush, kMaxStuckForReads);
}

void RowShard::AddToIndex(uint32_t slot, uint32_t tag) {
  index_.Add(tag, slot);
  ++num_indexed_;
  --num_unindexed_;
}

void RowShard::Free(uint32_t slot) {
  NoteLeaving(*row(slot));
  if (!RemoveFromIndex(slot)) --num_unindexed_;
  if (row(slot)->state == SlotState::kLoading) --num_loading_;
  AddFree(slot);
}

void RowShard::AddFree(uint32_t slot) {
  new (row(slot)) CachedRow{0, SlotState::kFree, 0, 0, 0, first_free_, 0, 0};
  first_free_ = slot;
}

void RowShard::ReserveDirty(size_t num_rows) { ReserveMore(dirty_rows_, num_taken_ + num_rows); }

void RowShard::TakeDirtyRows(std::vector<DirtyRow>* rows) {
  rows->insert(rows->end(), dirty_rows_.begin(), dirty_rows_.end());
  num_taken_ = dirty_rows_.size();
  dirty_rows_.clear();
}

void RowShard::ForgetDirty() {
  for (const DirtyRow& dirty : dirty_rows_) row(dirty.slot)->dirty = 0;
  dirty_rows_.clear();
  num_dirty_ = 0;
}

void RowShard::DropCleanRows(uint8_t active_flush) {
  if (slabs_.empty()) return;
  uint32_t slot = 0;
  do {
    if (Evictable(*row(slot), active_flush)) Free(slot);
    slot = NextSlot(slot);
  } while (slot != 0);
}

bool RowShard::ReleaseLastSlab(uint8_t active_flush) {
  if (slabs_.size() < 2) return false;
  const auto first = static_cast<uint32_t>(slabs_.size() - 1) << geometry_.slot_shift;
  for (uint32_t slot = first; slot < first + geometry_.rows_per_slab; ++slot) {
    const CachedRow& cached = *row(slot);
    if (cached.state != SlotState::kFree && !Evictable(cached, active_flush)) return false;
  }
  for (uint32_t slot = first; slot < first + geometry_.rows_per_slab; ++slot) {
    if (row(slot)->state == SlotState::kFree) continue;
    NoteLeaving(*row(slot));
    RemoveFromIndex(slot);
    ++num_evicted_;
  }
  uint32_t free = std::exchange(first_free_, kNoSlot);
  while (free != kNoSlot) {
    const auto next = static_cast<uint32_t>(row(free)->key);
    if (free < first) AddFree(free);
    free = next;
  }
  memory_->ReleaseSlab(holder_, slabs_.back(), geometry_.slab_bytes);
  slabs_.pop_back();
  if (hand_ >= first) hand_ = 0;
  return true;
}

uint32_t RowShard::NextSlot(uint32_t slot) const {
  if ((slot & geometry_.row_mask) + 1 < geometry_.rows_per_slab) return slot + 1;
  const uint32_t slab = (slot >> geometry_.slot_shift) + 1;
  return slab < slabs_.size() ? slab << geometry_.slot_shift : 0;
}

// Takes memory for more slots; false if there is none to be had.
bool RowShard::AddSlab() {
  ReserveMore(slabs_, 1);  // a slab must not get lost
  char* const slab = memory_->AcquireSlab(holder_, geometry_.slab_bytes, /*beyond_limit=*/slabs_.empty());
  if (slab == nullptr) return false;
  const auto first = static_cast<uint32_t>(slabs_.size()) << geometry_.slot_shift;
  slabs_.push_back(slab);
  for (uint32_t i = geometry_.rows_per_slab; i-- > 0;) AddFree(first + i);
  return true;
}

// Takes the place of the next row that the clock's hand finds not referenced: each one gets a second chance,
// so two rounds are enough. Gives up after `max_stuck` in a row that must stay.
uint32_t RowShard::Evict(uint8_t active_flush, uint64_t max_stuck) {
  const uint64_t num_slots = slabs_.size() * uint64_t{geometry_.rows_per_slab};
  uint64_t num_stuck = 0;
  for (uint64_t i = 0; i < 2 * num_slots && num_stuck < max_stuck; ++i) {
    ++num_searched_;
    const uint32_t slot = hand_;
    hand_ = NextSlot(hand_);
    __builtin_prefetch(row(hand_) + 1);
    CachedRow* const cached = row(slot);
    if (!Evictable(*cached, active_flush)) {
      ++num_stuck;
      continue;
    }
    num_stuck = 0;
    if (cached->referenced != 0) {
      cached->referenced = 0;
      continue;
    }
    NoteLeaving(*cached);
    RemoveFromIndex(slot);
    ++num_evicted_;
    return slot;
  }
  return kNoSlot;
}

// False if it has no entry.
bool RowShard::RemoveFromIndex(uint32_t slot) {
  if (!index_.Remove(TagOf(HashKey(row(slot)->key)), slot)) return false;
  --num_indexed_;
  return true;
}

void RowShard::GrowIndex() {
  index_.Grow();
  const int64_t grown = index_.memory_bytes() - index_bytes_;
  memory_->Charge(holder_, grown);
  index_bytes_ += grown;
}

}  // namespace damo
