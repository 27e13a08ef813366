// SPDX-License-Identifier: Apache-2.0
#include "damo/cache/cache_memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <new>
#include <vector>

#include "damo/base/test_allocations.h"
#include "damo/cache/row_cache.h"

namespace damo {
namespace {

constexpr size_t kSlab = CacheMemory::kSlabBytes;

// Takes slabs and gives one back when it is asked to.
class Taker final : public CacheMemory::Holder {
 public:
  explicit Taker(CacheMemory* memory) : memory_(memory) { memory_->Join(this); }
  ~Taker() override {
    while (!slabs_.empty()) Release();
    memory_->Leave(this);
  }
  bool Take(bool beyond_limit = false) {
    char* const slab = memory_->AcquireSlab(this, kSlab, beyond_limit);
    if (slab == nullptr) return false;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(slab) % 64, 0U);
    std::memset(slab, 1, kSlab);
    slabs_.push_back(slab);
    return true;
  }
  void Release() {
    memory_->ReleaseSlab(this, slabs_.back(), kSlab);
    slabs_.pop_back();
  }
  void TryReleaseSlab() override {
    if (generous && !slabs_.empty()) Release();
  }
  size_t num_slabs() const { return slabs_.size(); }
  bool generous = true;

 private:
  CacheMemory* const memory_;
  std::vector<char*> slabs_;
};

TEST(CacheMemoryTest, NothingIsTakenBeyondTheLimitUnlessAskedFor) {
  CacheMemory memory(3 * kSlab);
  Taker taker(&memory);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(taker.Take());
  EXPECT_FALSE(taker.Take());
  EXPECT_EQ(memory.used_bytes(), static_cast<int64_t>(3 * kSlab));
  EXPECT_TRUE(taker.Take(/*beyond_limit=*/true));
  taker.Release();
  taker.Release();
  EXPECT_TRUE(taker.Take());
  EXPECT_FALSE(taker.Take());
}

TEST(CacheMemoryTest, ChargesLeaveLessForSlabs) {
  CacheMemory memory(3 * kSlab);
  Taker taker(&memory);
  memory.Charge(&taker, kSlab + 1);
  EXPECT_TRUE(taker.Take());
  EXPECT_FALSE(taker.Take());
  memory.Charge(&taker, -static_cast<int64_t>(kSlab + 1));
  EXPECT_TRUE(taker.Take());
}

TEST(CacheMemoryTest, TheLargestHolderGivesWayUntilTheSharesAreEven) {
  CacheMemory memory(10 * kSlab);
  Taker first(&memory);
  while (first.Take()) {
  }
  EXPECT_EQ(first.num_slabs(), 10U);
  Taker second(&memory);
  while (second.Take()) {
  }
  EXPECT_EQ(first.num_slabs() + second.num_slabs(), 10U);
  EXPECT_GE(second.num_slabs(), 4U);
  EXPECT_FALSE(first.Take()) << "no slab goes to and fro";
}

TEST(CacheMemoryTest, AHolderIsAskedToGiveWayBeforeTheLimitIsPassed) {
  CacheMemory memory(4 * kSlab);
  Taker first(&memory);
  while (first.Take()) {
  }
  Taker second(&memory);
  EXPECT_TRUE(second.Take(/*beyond_limit=*/true));
  EXPECT_EQ(first.num_slabs(), 3U);
  EXPECT_EQ(memory.used_bytes(), memory.limit_bytes());
  first.generous = false;
  Taker third(&memory);
  EXPECT_TRUE(third.Take(/*beyond_limit=*/true)) << "a cache cannot do without its first";
  EXPECT_EQ(memory.used_bytes(), static_cast<int64_t>(5 * kSlab));
}

// What a slab of common size leaves behind must not be spent a second time on what no slab is made of.
TEST(CacheMemoryTest, MemoryOfSlabsGivenBackIsTheSystemsBeforeOthersUseIt) {
  for (const bool as_filter : {true, false}) {
    CacheMemory memory(64 * kSlab);
    Taker taker(&memory);
    while (taker.Take()) {
    }
    while (taker.num_slabs() > 0) taker.Release();
    EXPECT_EQ(memory.held_bytes(), memory.limit_bytes());
    const auto bytes = static_cast<int64_t>(40 * kSlab);
    char* wide = nullptr;
    if (as_filter) {
      memory.Reserve(bytes);
    } else {
      wide = memory.AcquireSlab(&taker, bytes, false);
      ASSERT_NE(wide, nullptr);
    }
    EXPECT_EQ(memory.used_bytes(), bytes);
    EXPECT_LE(memory.held_bytes(), memory.limit_bytes());
    while (taker.Take()) {
    }
    EXPECT_EQ(memory.held_bytes(), memory.limit_bytes());
    if (as_filter) {
      memory.Reserve(-bytes);
    } else {
      memory.ReleaseSlab(&taker, wide, bytes);
    }
  }
}

TEST(CacheMemoryTest, ASlabWhoseMemoryWasGivenBackIsUsableAgain) {
  CacheMemory memory(4 * kSlab);
  Taker taker(&memory);
  char* slab = memory.AcquireSlab(&taker, kSlab, false);
  std::memset(slab, 1, kSlab);
  memory.ReleaseSlab(&taker, slab, kSlab);
  memory.Reserve(4 * kSlab);
  memory.Reserve(-static_cast<int64_t>(4 * kSlab));
  bool found = false;
  std::vector<char*> slabs;
  for (int i = 0; i < 4; ++i) {
    slabs.push_back(memory.AcquireSlab(&taker, kSlab, false));
    ASSERT_NE(slabs.back(), nullptr);
    if (slabs.back() == slab) {
      found = true;
      EXPECT_EQ(slab[0], 0) << "these are new pages";
    }
    std::memset(slabs.back(), 2, kSlab);
  }
  EXPECT_TRUE(found);
  for (char* const taken : slabs) memory.ReleaseSlab(&taker, taken, kSlab);
}

TEST(CacheMemoryTest, AHolderThatCannotGiveKeepsWhatItHas) {
  CacheMemory memory(4 * kSlab);
  Taker first(&memory);
  while (first.Take()) {
  }
  first.generous = false;
  Taker second(&memory);
  EXPECT_FALSE(second.Take());
  EXPECT_EQ(first.num_slabs(), 4U);
}

TEST(CacheMemoryTest, SlabsOfAnySizeAreCounted) {
  CacheMemory memory(100 * kSlab);
  Taker taker(&memory);
  char* const slab = memory.AcquireSlab(&taker, 3 * kSlab + 64, false);
  ASSERT_NE(slab, nullptr);
  EXPECT_EQ(memory.used_bytes(), static_cast<int64_t>(3 * kSlab + 64));
  memory.ReleaseSlab(&taker, slab, 3 * kSlab + 64);
  EXPECT_EQ(memory.used_bytes(), 0);
}

// What the memory of a cached row may cost: DESIGN allows 1.25 times its bytes on disk.
TEST(RowCacheTest, ACachedRowTakesLittleMoreThanItsBytesOnDisk) {
  const size_t row_bytes = kRowHeaderBytes + 3 * 16 * sizeof(float);
  CacheMemory memory(64 << 20);
  RowCache cache(row_bytes, &memory);
  uint64_t key = 0;
  int64_t evicted = 0;
  while (evicted == 0) {
    const uint64_t hash = HashKey(key);
    RowShard& shard = cache.ShardFor(hash);
    const uint32_t slot = shard.Allocate(key++, 0);
    shard.AddToIndex(slot, TagOf(hash));
    shard.Publish(slot);
    evicted += shard.num_evicted();
  }
  const double bytes_per_row = static_cast<double>(memory.used_bytes()) / cache.Stats().num_rows;
  EXPECT_LE(bytes_per_row, 1.25 * (row_bytes + 9));
  EXPECT_LE(memory.used_bytes(), memory.limit_bytes() + (int64_t{1} << 20));
}

TEST(RowCacheTest, ACacheThatDoesNotComeToExistIsForgotten) {
  bool failed = true;
  for (int64_t n = 0; failed; ++n) {
    CacheMemory memory(64 << 20);
    alignas(RowCache) char place[sizeof(RowCache)];
    {
      const FailingAllocation one(n);
      try {
        (new (place) RowCache(64, &memory))->~RowCache();
      } catch (const std::bad_alloc&) {
      }
      failed = one.failed();
    }
    std::memset(place, 0, sizeof(place));  // who knew it still would die of it
    memory.Reserve(1 << 30);               // asks every cache for memory
    memory.Reserve(-(1 << 30));
    EXPECT_EQ(memory.used_bytes(), 0) << "allocation " << n;
  }
}

TEST(RowCacheTest, ShardsShareTheKeysEvenly) {
  CacheMemory memory(64 << 20);
  RowCache cache(64, &memory);
  ASSERT_GT(cache.num_shards(), 1);
  std::vector<int> counts(cache.num_shards());
  for (uint64_t key = 0; key < 64'000; ++key) ++counts[cache.ShardOf(HashKey(key))];
  for (const int count : counts)
    EXPECT_NEAR(count, 64'000 / cache.num_shards(), 64'000 / cache.num_shards() / 10);
}

TEST(RowCacheTest, ACacheGivesASlabOfCleanRowsToAnother) {
  CacheMemory memory(8 << 20);
  RowCache first(1024, &memory);
  const auto insert = [](RowCache& cache, uint64_t key) {
    const uint64_t hash = HashKey(key);
    RowShard& shard = cache.ShardFor(hash);
    const uint32_t slot = shard.Allocate(key, 0);
    ASSERT_NE(slot, RowShard::kNoSlot);
    shard.AddToIndex(slot, TagOf(hash));
    shard.Publish(slot);
  };
  for (uint64_t key = 0; key < 20'000; ++key) insert(first, key);
  RowCache second(1024, &memory);
  for (uint64_t key = 0; key < 20'000; ++key) insert(second, key);
  const double first_rows = first.Stats().num_rows;
  EXPECT_NEAR(second.Stats().num_rows / first_rows, 1.0, 0.2);
  EXPECT_LE(memory.used_bytes(), memory.limit_bytes() + (1 << 18));
}

}  // namespace
}  // namespace damo
