// SPDX-License-Identifier: Apache-2.0
#include "damo/config/store_options.h"

#include <gtest/gtest.h>

#include <limits>

namespace damo {
namespace {

TEST(StoreOptionsTest, DefaultsAreValid) { EXPECT_TRUE(StoreOptions().Validate().ok()); }

TEST(StoreOptionsTest, TtlMustBePositiveAndFitInMilliseconds) {
  StoreOptions options;
  options.ttl_seconds = 1;
  EXPECT_TRUE(options.Validate().ok());
  options.ttl_seconds = 9223372036854775;
  EXPECT_TRUE(options.Validate().ok());
  for (const int64_t wrong : {int64_t{0}, int64_t{-5}, int64_t{9223372036854776}}) {
    options.ttl_seconds = wrong;
    EXPECT_EQ(options.Validate().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(options.Validate().message(),
              StrCat("ttl_seconds must be > 0 and <= 9223372036854775. Received: ttl_seconds=", wrong));
  }
}

TEST(StoreOptionsTest, MemoryBudgetHasAMinimum) {
  StoreOptions options;
  options.memory_budget = StoreOptions::kMinMemoryBudget;
  EXPECT_TRUE(options.Validate().ok());
  options.memory_budget = StoreOptions::kMinMemoryBudget - 1;
  EXPECT_EQ(options.Validate().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(options.Validate().message(),
            "memory_budget must be >= 4194304 bytes. Received: memory_budget=4194303");
}

TEST(StoreOptionsTest, ThreeSixteenthsOfTheBudgetAreForIndexesAndAnEighthStaysFreeUnlessItIsLarge) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  const auto free_bytes = [](int64_t budget) {
    return budget - PlanMemory(budget).cache_bytes - PlanMemory(budget).storage_bytes;
  };
  EXPECT_EQ(PlanMemory(256 * kMiB).storage_bytes, 48 * kMiB);
  EXPECT_EQ(free_bytes(256 * kMiB), 48 * kMiB);
  EXPECT_EQ(free_bytes(1024 * kMiB), 64 * kMiB);
  EXPECT_EQ(PlanMemory(4096 * kMiB).storage_bytes, 768 * kMiB);
  EXPECT_EQ(free_bytes(4096 * kMiB), 256 * kMiB);
}

TEST(StoreOptionsTest, TheSmallestBudgetHasRoomForStorageAndRows) {
  const MemoryPlan plan = PlanMemory(StoreOptions::kMinMemoryBudget);
  EXPECT_EQ(plan.storage_bytes, int64_t{2} << 20);
  EXPECT_GE(plan.cache_bytes, int64_t{1} << 20);
}

TEST(StoreOptionsTest, RedoLogIsFlushedAtTheSizeOfTheBudgetWithinBounds) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  EXPECT_EQ(PlanMemory(4 * kMiB).redo_bytes, uint64_t{64} << 20);
  EXPECT_EQ(PlanMemory(64 * kMiB).redo_bytes, uint64_t{64} << 20);
  EXPECT_EQ(PlanMemory(300 * kMiB).redo_bytes, uint64_t{300} << 20);
  EXPECT_EQ(PlanMemory(1024 * kMiB).redo_bytes, uint64_t{1} << 30);
  EXPECT_EQ(PlanMemory(4096 * kMiB).redo_bytes, uint64_t{1} << 30);
}

TEST(StoreOptionsTest, SegmentsTakeASixteenthOfTheBudgetWithinBounds) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  EXPECT_EQ(PlanMemory(4 * kMiB).segment_bytes, uint64_t{1} << 20);
  EXPECT_EQ(PlanMemory(160 * kMiB).segment_bytes, uint64_t{10} << 20);
  EXPECT_EQ(PlanMemory(4096 * kMiB).segment_bytes, uint64_t{64} << 20);
}

TEST(DurabilityTest, NamesRoundTrip) {
  for (const char* name : {"wal", "sync", "checkpoint"}) {
    const StatusOr<Durability> durability = ParseDurability(name);
    ASSERT_TRUE(durability.ok());
    EXPECT_EQ(DurabilityName(*durability), name);
  }
}

TEST(DurabilityTest, AnUnknownNameListsTheKnownOnes) {
  const StatusOr<Durability> durability = ParseDurability("Wal");
  EXPECT_EQ(durability.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(durability.status().message(), "unknown durability 'Wal'; known: 'wal', 'sync', 'checkpoint'");
}

}  // namespace
}  // namespace damo
