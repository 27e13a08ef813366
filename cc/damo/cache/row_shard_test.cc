// SPDX-License-Identifier: Apache-2.0
#include "damo/cache/row_shard.h"

#include <gtest/gtest.h>

#include <iterator>
#include <map>
#include <memory>
#include <new>
#include <random>
#include <vector>

#include "damo/base/test_allocations.h"

namespace damo {
namespace {

constexpr size_t kRowBytes = kRowHeaderBytes + 16 * sizeof(float);

class TestHolder final : public CacheMemory::Holder {
 public:
  void TryReleaseSlab() override {}
};

// A shard that may have so many slabs.
class RowShardTest : public testing::Test {
 protected:
  void Make(int64_t num_slabs) {
    const auto slab_bytes = static_cast<int64_t>(CacheMemory::kSlabBytes);
    memory_ = std::make_unique<CacheMemory>(num_slabs * slab_bytes + slab_bytes / 2);  // a half for the index
    memory_->Join(&holder_);
    index_memory_ = std::make_unique<IndexMemory>(1);
    shard_ = std::make_unique<RowShard>(geometry_, memory_.get(), &holder_, index_memory_.get(), 0);
  }
  ~RowShardTest() override {
    shard_.reset();
    if (memory_ != nullptr) memory_->Leave(&holder_);
  }

  // A ready row for `key`; kNoSlot if there is no room.
  uint32_t Insert(uint64_t key, uint8_t active_flush = 0) {
    const uint32_t slot = shard_->Allocate(key, active_flush);
    if (slot == RowShard::kNoSlot) return slot;
    shard_->AddToIndex(slot, Tag(key));
    shard_->Publish(slot);
    return slot;
  }
  // Fills every slot; returns the keys in order of insertion.
  std::vector<uint64_t> Fill() {
    std::vector<uint64_t> keys;
    for (uint64_t key = 0; shard_->num_evicted() == 0; ++key) {
      Insert(key);
      keys.push_back(key);
    }
    return keys;
  }
  static uint32_t Tag(uint64_t key) { return TagOf(HashKey(key)); }
  bool Has(uint64_t key) const { return shard_->Find(key, Tag(key)) != RowShard::kNoSlot; }
  CachedRow* RowOf(uint64_t key) const { return shard_->row(shard_->Find(key, Tag(key))); }

  const SlotGeometry geometry_{kRowBytes};
  TestHolder holder_;
  std::unique_ptr<CacheMemory> memory_;
  std::unique_ptr<IndexMemory> index_memory_;
  std::unique_ptr<RowShard> shard_;
};

TEST(SlotGeometryTest, RowsFillASlabAndAreAligned) {
  for (const size_t row_bytes : {40, 64, 224, 1000, 4096, 5000, 40000, 786464}) {
    const SlotGeometry geometry(row_bytes);
    EXPECT_GE(geometry.stride, row_bytes);
    EXPECT_LT(geometry.stride, row_bytes + 32);
    EXPECT_EQ(geometry.stride % 32, 0U);
    EXPECT_LE(geometry.rows_per_slab * geometry.stride, geometry.slab_bytes);
    EXPECT_LE(geometry.rows_per_slab, geometry.row_mask + 1);
    EXPECT_GE(geometry.rows_per_slab * geometry.stride * 8, geometry.slab_bytes * 7)
        << "an eighth wasted at most";
  }
}

TEST(TagTest, EveryHashHasOne) {
  EXPECT_EQ(TagOf(0x1234567800000005), 5U);
  EXPECT_NE(TagOf(0x1234567800000000), SlotIndex::kFreeTag);
}

TEST_F(RowShardTest, ARowIsFoundUnderItsKeyOnly) {
  Make(4);
  const uint32_t slot = Insert(7);
  EXPECT_EQ(shard_->Find(7, Tag(7)), slot);
  EXPECT_EQ(shard_->Find(8, Tag(7)), RowShard::kNoSlot) << "another key with the same tag";
  EXPECT_EQ(shard_->num_rows(), 1);
  shard_->Free(slot);
  EXPECT_FALSE(Has(7));
  EXPECT_EQ(shard_->num_rows(), 0);
}

TEST_F(RowShardTest, KeysOfOneTagAreKeptApart) {
  Make(4);
  std::vector<uint32_t> slots;
  for (uint64_t key = 0; key < 10; ++key) {
    slots.push_back(shard_->Allocate(key, 0));
    shard_->AddToIndex(slots.back(), /*tag=*/99);
  }
  for (uint64_t key = 0; key < 10; ++key) EXPECT_EQ(shard_->Find(key, 99), slots[key]);
  EXPECT_EQ(shard_->Find(10, 99), RowShard::kNoSlot);
}

TEST_F(RowShardTest, AFullShardEvictsTheRowThatWasNotReferenced) {
  Make(1);
  const std::vector<uint64_t> keys = Fill();
  ASSERT_EQ(keys.size(), geometry_.rows_per_slab + 1);
  EXPECT_FALSE(Has(keys[0]));
  RowOf(keys[1])->SetReferenced();
  Insert(1000);
  EXPECT_TRUE(Has(keys[1])) << "gets a second chance";
  EXPECT_FALSE(Has(keys[2]));
  EXPECT_EQ(shard_->num_evicted(), 2);
}

TEST_F(RowShardTest, DirtyMarkedLoadingAndCopiedRowsAreNotEvicted) {
  Make(1);
  std::vector<uint64_t> keys;
  for (uint64_t key = 0; key < geometry_.rows_per_slab; ++key) {
    ASSERT_NE(Insert(key), RowShard::kNoSlot);
    keys.push_back(key);
  }
  const uint8_t flush = 3;
  for (const uint64_t key : keys) {
    switch (key % 3) {
      case 0:
        shard_->SetDirty(shard_->Find(key, Tag(key)));
        break;
      case 1:
        RowOf(key)->mark = 1;
        break;
      default:
        shard_->SetDirty(shard_->Find(key, Tag(key)));
        shard_->SetCopied(shard_->Find(key, Tag(key)), flush);
    }
  }
  EXPECT_EQ(Insert(1000, flush), RowShard::kNoSlot);
  RowOf(keys[1])->mark = 0;
  const uint32_t loading = shard_->Allocate(1000, flush);
  EXPECT_NE(loading, RowShard::kNoSlot);
  EXPECT_FALSE(Has(keys[1]));
  EXPECT_EQ(Insert(1001, flush), RowShard::kNoSlot);
  EXPECT_NE(Insert(1001, /*active_flush=*/0), RowShard::kNoSlot) << "the flush is over";
  EXPECT_EQ(shard_->num_evicted(), 2);
}

TEST_F(RowShardTest, RowsReadAheadTakeAQuarterOfTheSlotsAtMost) {
  Make(1);
  Fill();
  uint32_t num_slots = 0;
  std::vector<uint32_t> slots;
  for (uint64_t key = 5000; key < 6000; ++key) {
    const uint32_t slot = shard_->AllocateToRead(key, 0);
    if (slot == RowShard::kNoSlot) break;
    slots.push_back(slot);
    ++num_slots;
  }
  EXPECT_GT(num_slots, 0U);
  EXPECT_LE(num_slots, geometry_.rows_per_slab / 4);
  for (const uint32_t slot : slots) shard_->Free(slot);
  EXPECT_NE(shard_->AllocateToRead(7000, 0), RowShard::kNoSlot) << "slots that were freed count no more";
}

TEST_F(RowShardTest, DirtyRowsAreListedOnceUntilTheyAreTaken) {
  Make(1);
  const uint32_t slot = Insert(5);
  shard_->SetDirty(slot);
  shard_->SetDirty(slot);
  EXPECT_EQ(shard_->num_dirty(), 1);
  std::vector<RowShard::DirtyRow> rows;
  shard_->TakeDirtyRows(&rows);
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].key, 5U);
  EXPECT_EQ(rows[0].slot, slot);
  shard_->TakeDirtyRows(&rows);
  EXPECT_EQ(rows.size(), 1U);
  shard_->SetCopied(slot, 1);
  EXPECT_EQ(shard_->num_dirty(), 0);
  shard_->SetDirty(slot);
  shard_->TakeDirtyRows(&rows);
  EXPECT_EQ(rows.size(), 2U);
}

TEST_F(RowShardTest, WhatIsDoneWithASlotAllocatesNothing) {
  Make(8);
  std::vector<uint32_t> slots;
  std::vector<RowShard::DirtyRow> taken(1000);
  for (uint64_t key = 0; key < 1000; ++key) slots.push_back(shard_->Allocate(key, 0));
  shard_->ReserveDirty(slots.size());
  {
    const FailingAllocation none(0);
    for (uint64_t key = 0; key < 1000; ++key) {
      shard_->AddToIndex(slots[key], Tag(key));
      shard_->Publish(slots[key]);
      shard_->SetDirty(slots[key]);
    }
    taken.clear();
    shard_->TakeDirtyRows(&taken);
    for (const RowShard::DirtyRow& row : taken) shard_->ReturnDirtyRow(row);
    for (const uint32_t slot : slots) shard_->Free(slot);
    EXPECT_FALSE(none.failed());
  }
  EXPECT_EQ(shard_->num_rows(), 0);
}

TEST_F(RowShardTest, AllocationWithoutMemoryLeavesTheShardAsItWas) {
  for (int64_t n = 0; n < 5; ++n) {
    shard_.reset();
    if (memory_ != nullptr) memory_->Leave(&holder_);
    Make(2);
    const uint64_t num_keys = geometry_.rows_per_slab + 10;  // more than one slab, and sizes of the index
    for (uint64_t key = 0; key < num_keys; ++key) {
      bool failed = false;
      {
        const FailingAllocation one(n);
        try {
          Insert(key);
        } catch (const std::bad_alloc&) {
          failed = true;
        }
      }
      if (failed) Insert(key);
    }
    for (uint64_t key = 0; key < num_keys; ++key) ASSERT_TRUE(Has(key)) << key << ", allocation " << n;
    EXPECT_EQ(shard_->num_rows(), static_cast<int64_t>(num_keys));
    EXPECT_EQ(shard_->num_evicted(), 0) << "slots have got lost";
  }
}

TEST_F(RowShardTest, TheLastSlabIsGivenBackUnlessARowMustStay) {
  Make(2);
  Fill();
  const int64_t before = memory_->used_bytes();
  const int64_t rows_before = shard_->num_rows();
  CachedRow* must_stay = nullptr;
  for (uint64_t key = 0; must_stay == nullptr; ++key) {
    if (Has(key) && shard_->Find(key, Tag(key)) > geometry_.row_mask) must_stay = RowOf(key);
  }
  must_stay->mark = 1;
  EXPECT_FALSE(shard_->ReleaseLastSlab(0));
  must_stay->mark = 0;
  EXPECT_TRUE(shard_->ReleaseLastSlab(0));
  EXPECT_EQ(memory_->used_bytes(), before - static_cast<int64_t>(CacheMemory::kSlabBytes));
  EXPECT_EQ(shard_->num_rows(), rows_before - geometry_.rows_per_slab);
  EXPECT_FALSE(shard_->ReleaseLastSlab(0)) << "one slab is the least";
}

// Random operations go to the shard and to a map.
TEST_F(RowShardTest, IsAMapWhateverHappens) {
  Make(1);
  std::mt19937_64 random(20261122);
  std::map<uint64_t, int64_t> rows;  // key -> update_num
  for (int i = 0; i < 200'000; ++i) {
    const uint64_t key = random() % 700;
    const uint32_t slot = shard_->Find(key, Tag(key));
    if (slot != RowShard::kNoSlot) {
      ASSERT_EQ(shard_->row(slot)->key, key);
      ASSERT_EQ(shard_->row(slot)->update_num, rows.at(key));
      if (random() % 3 == 0) {
        shard_->Free(slot);
        rows.erase(key);
      } else {
        rows[key] = ++shard_->row(slot)->update_num;
        if (random() % 2 == 0) shard_->row(slot)->SetReferenced();
      }
      continue;
    }
    const int64_t evicted_before = shard_->num_evicted();
    const uint32_t inserted = Insert(key);
    ASSERT_NE(inserted, RowShard::kNoSlot);
    if (shard_->num_evicted() == evicted_before) {
      ASSERT_EQ(rows.count(key), 0U) << "a row got lost: " << key;
    } else {
      for (auto it = rows.begin(); it != rows.end();) it = Has(it->first) ? std::next(it) : rows.erase(it);
    }
    rows[key] = shard_->row(inserted)->update_num = i;
    ASSERT_EQ(shard_->num_rows(), static_cast<int64_t>(rows.size()));
  }
  EXPECT_GT(shard_->num_evicted(), 1000);
}

TEST_F(RowShardTest, DirtyRowsThatAreForgottenAreCleanAndOnNoList) {
  Make(1);
  for (uint64_t key = 0; key < 3; ++key) shard_->SetDirty(Insert(key));
  shard_->DropCleanRows(0);
  EXPECT_TRUE(Has(0) && Has(1) && Has(2));
  shard_->ForgetDirty();
  EXPECT_EQ(shard_->num_dirty(), 0);
  EXPECT_EQ(shard_->dirty_rows().size(), 0);
  shard_->DropCleanRows(0);
  EXPECT_EQ(shard_->num_rows(), 0);
  shard_->SetDirty(Insert(1));
  EXPECT_EQ(shard_->num_dirty(), 1);
}

TEST_F(RowShardTest, ReadsGiveUpSoonWhereNothingCanBeEvicted) {
  Make(100);
  const std::vector<uint64_t> keys = Fill();
  for (const uint64_t key : keys) {
    if (Has(key)) shard_->SetDirty(shard_->Find(key, Tag(key)));
  }
  ASSERT_GT(shard_->num_rows(), 10'000);
  const int64_t before = shard_->num_searched();

  EXPECT_EQ(shard_->AllocateToRead(1'000'000, 0), RowShard::kNoSlot);

  EXPECT_LE(shard_->num_searched() - before, 1024);
  EXPECT_EQ(shard_->Allocate(1'000'000, 0), RowShard::kNoSlot) << "an apply call looks everywhere";
  EXPECT_GE(shard_->num_searched() - before, shard_->num_rows());
}

TEST_F(RowShardTest, ReadsFindTheOneRowThatHasNotBeenUsedAmongMany) {
  Make(100);
  for (const uint64_t key : Fill()) {
    if (Has(key)) RowOf(key)->SetReferenced();
  }
  const uint32_t slot = shard_->AllocateToRead(1'000'000, 0);
  EXPECT_NE(slot, RowShard::kNoSlot) << "rows with a second chance are no reason to give up";
  shard_->Free(slot);
}

}  // namespace
}  // namespace damo
