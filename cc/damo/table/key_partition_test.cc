// SPDX-License-Identifier: Apache-2.0
#include "damo/table/key_partition.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "damo/base/thread_pool.h"

namespace damo {
namespace {

class KeyPartitionTest : public testing::Test {
 protected:
  CacheMemory memory_{64 << 20};
  RowCache cache_{64, &memory_};
};

TEST_F(KeyPartitionTest, EveryKeyIsInItsShardInOrderOfOccurrence) {
  std::mt19937_64 random(5);
  std::vector<uint64_t> keys(50'000);
  for (uint64_t& key : keys) key = random() % 3000;
  ThreadPool threads(3);
  for (Executor* const executor : {Executor::Inline(), static_cast<Executor*>(&threads)}) {
    KeyPartition partition;
    for (int round = 0; round < 2; ++round) partition.Build(keys, /*padding_key=*/17, cache_, *executor);
    size_t num_keys = 0;
    for (int shard = 0; shard < cache_.num_shards(); ++shard) {
      int64_t last = -1;
      for (const KeyPartition::Occurrence& occurrence : partition.shard(shard)) {
        ASSERT_EQ(occurrence.key, keys[occurrence.position]);
        ASSERT_EQ(occurrence.tag, TagOf(HashKey(occurrence.key)));
        ASSERT_EQ(cache_.ShardOf(HashKey(occurrence.key)), shard);
        ASSERT_NE(occurrence.key, 17U);
        ASSERT_GT(int64_t{occurrence.position}, last);
        last = occurrence.position;
        ++num_keys;
      }
    }
    EXPECT_EQ(num_keys, keys.size() - std::count(keys.begin(), keys.end(), 17U));
  }
}

TEST_F(KeyPartitionTest, NoKeysAreLegal) {
  KeyPartition partition;
  partition.Build(std::vector<uint64_t>{1, 2, 3}, std::nullopt, cache_, *Executor::Inline());
  partition.Build({}, std::nullopt, cache_, *Executor::Inline());
  for (int shard = 0; shard < cache_.num_shards(); ++shard) EXPECT_TRUE(partition.shard(shard).empty());
}

}  // namespace
}  // namespace damo
