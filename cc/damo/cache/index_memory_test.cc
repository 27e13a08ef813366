// SPDX-License-Identifier: Apache-2.0
#include "damo/cache/index_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "damo/base/huge_pages.h"

namespace damo {
namespace {

constexpr int kNumShards = 8;
constexpr size_t kPage = 4096;

// Pages of [begin, begin + bytes) that take memory; -1 if some are not mapped.
int NumResident(const char* begin, size_t bytes) {
  std::vector<unsigned char> resident((bytes + kPage - 1) / kPage);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): mincore() changes nothing
  if (mincore(const_cast<char*>(begin), bytes, resident.data()) != 0) return -1;
  return static_cast<int>(std::count(resident.begin(), resident.end(), 1));
}

TEST(IndexMemoryTest, PiecesOfASizeLieSideBySide) {
  IndexMemory memory(kNumShards);
  for (const size_t bytes : {size_t{512}, size_t{64} << 10, kHugePageBytes}) {
    char* const first = memory.Acquire(0, bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 64, 0U);
    for (int shard = 1; shard < kNumShards; ++shard) {
      EXPECT_EQ(memory.Acquire(shard, bytes), first + static_cast<size_t>(shard) * bytes);
    }
    std::memset(first, 1, kNumShards * bytes);
    for (int shard = 0; shard < kNumShards; ++shard) memory.Release(shard, bytes);
  }
}

TEST(IndexMemoryTest, WhatMayBeInLargePagesIsAlignedToThem) {
  IndexMemory memory(kNumShards);
  char* const piece = memory.Acquire(0, kHugePageBytes / kNumShards);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(piece) % kHugePageBytes, 0U);
  memory.Release(0, kHugePageBytes / kNumShards);
}

TEST(IndexMemoryTest, PiecesOfDifferentSizesStandBesideEachOther) {
  IndexMemory memory(kNumShards);
  char* const small = memory.Acquire(3, kPage);
  std::memset(small, 1, kPage);
  char* const large = memory.Acquire(3, 2 * kPage);
  std::memset(large, 2, 2 * kPage);
  EXPECT_EQ(std::count(small, small + kPage, 1), static_cast<int64_t>(kPage));
  memory.Release(3, kPage);
  EXPECT_EQ(std::count(large, large + 2 * kPage, 2), static_cast<int64_t>(2 * kPage));
  memory.Release(3, 2 * kPage);
}

TEST(IndexMemoryTest, OnlyWhatIsTakenTakesMemory) {
  constexpr int kNumPages = 16;  // of a piece
  IndexMemory memory(kNumShards);
  char* const piece = memory.Acquire(0, kNumPages * kPage);
  madvise(piece, kNumShards * kNumPages * kPage, MADV_NOHUGEPAGE);
  EXPECT_EQ(NumResident(piece, kNumShards * kNumPages * kPage), 0);
  char* const other = memory.Acquire(1, kNumPages * kPage);
  std::memset(piece, 1, kNumPages * kPage);
  std::memset(other, 1, kNumPages * kPage);
  EXPECT_EQ(NumResident(piece, kNumShards * kNumPages * kPage), 2 * kNumPages);
  memory.Release(0, kNumPages * kPage);
  EXPECT_EQ(NumResident(piece, kNumShards * kNumPages * kPage), kNumPages);
  memory.Release(1, kNumPages * kPage);
  EXPECT_EQ(NumResident(piece, kNumPages * kPage), -1) << "unmapped";
}

TEST(IndexMemoryTest, APieceThatIsReleasedTakesNothingOfItsNeighbours) {
  for (const size_t bytes : {size_t{512}, kPage, size_t{64} << 10, kHugePageBytes / kNumShards}) {
    IndexMemory memory(kNumShards);
    std::vector<char*> pieces;
    for (int shard = 0; shard < kNumShards; ++shard) {
      pieces.push_back(memory.Acquire(shard, bytes));
      std::memset(pieces.back(), shard, bytes);
    }
    for (int shard = 1; shard < kNumShards; shard += 2) memory.Release(shard, bytes);
    for (int shard = 0; shard < kNumShards; shard += 2) {
      EXPECT_EQ(std::count(pieces[shard], pieces[shard] + bytes, shard), static_cast<int64_t>(bytes))
          << shard;
      memory.Release(shard, bytes);
    }
  }
}

TEST(IndexMemoryTest, ShardsTakeAndReleaseAtTheSameTime) {
  IndexMemory memory(kNumShards);
  std::vector<std::thread> threads;
  for (int shard = 0; shard < kNumShards; ++shard) {
    threads.emplace_back([&memory, shard] {
      for (size_t bytes = 512; bytes <= size_t{64} << 10; bytes *= 2) {
        char* const piece = memory.Acquire(shard, bytes);
        std::memset(piece, shard, bytes);
        EXPECT_EQ(std::count(piece, piece + bytes, static_cast<char>(shard)), static_cast<int64_t>(bytes));
        memory.Release(shard, bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace damo
