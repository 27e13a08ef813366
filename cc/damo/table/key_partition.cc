// SPDX-License-Identifier: Apache-2.0
#include "damo/table/key_partition.h"

#include <algorithm>

namespace damo {
namespace {

// The keys are counted and placed in this many ranges at most, each by one thread. The result does not depend
// on it.
constexpr size_t kMaxRanges = 16;
constexpr size_t kMinKeysPerRange = 8192;

}  // namespace

void KeyPartition::Build(Span<const uint64_t> keys, std::optional<uint64_t> padding_key,
                         const RowCache& cache, Executor& executor) {
  const auto num_shards = static_cast<size_t>(cache.num_shards());
  const size_t num_ranges = std::clamp<size_t>(keys.size() / kMinKeysPerRange, 1, kMaxRanges);
  const auto range_begin = [&](size_t range) { return keys.size() * range / num_ranges; };
  counts_.assign(num_ranges * num_shards, 0);
  const auto each_range = [&](const auto& visit) {
    executor.ParallelFor(static_cast<int64_t>(num_ranges), 1, [&](int64_t begin, int64_t end) {
      for (int64_t range = begin; range < end; ++range) {
        size_t* const counts = &counts_[range * num_shards];
        for (size_t i = range_begin(range); i < range_begin(range + 1); ++i) {
          if (keys[i] != padding_key) visit(counts, i, HashKey(keys[i]));
        }
      }
    });
  };

  each_range([&](size_t* counts, size_t /*i*/, uint64_t hash) { ++counts[cache.ShardOf(hash)]; });
  starts_.assign(num_shards + 1, 0);
  size_t total = 0;
  for (size_t shard = 0; shard < num_shards; ++shard) {
    starts_[shard] = total;
    for (size_t range = 0; range < num_ranges; ++range) {
      size_t& count = counts_[range * num_shards + shard];
      total += count;
      count = total - count;
    }
  }
  starts_[num_shards] = total;
  occurrences_.resize(total);
  each_range([&](size_t* next, size_t i, uint64_t hash) {
    occurrences_[next[cache.ShardOf(hash)]++] = {keys[i], TagOf(hash), static_cast<uint32_t>(i)};
  });
}

}  // namespace damo
